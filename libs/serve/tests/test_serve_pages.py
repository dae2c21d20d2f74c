"""The pages for people: what they say, what they never do, and that nothing anybody wrote becomes markup."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from serve_folders import write_minimal
from web_service import Running, running, write_wide

from slipway_serve.page_markup import el, join, prose, table

NAME = "paged"
HOSTILE = ("<script>document", "<img", "<b>", "<i>", "</title><script")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(write_wide(tmp_path_factory.mktemp("wide"), NAME)) as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


class Outline(HTMLParser):
    """The elements of a page: which are open, which addresses they load, which labels name which controls."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in {"meta", "link", "input", "br", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str]]:
        """The attributes of these elements."""
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_is_well_formed_and_loads_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    outline = Outline(answer.text)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert outline.open == []
    loaded = [
        part.get("src", part.get("href", "")) for part in outline.all("script", "link", "img", "iframe", "source")
    ]
    assert sorted(loaded) == ["/static/pages.css", "/static/try.js", "data:,"]
    assert all(client.get(address).status_code == 200 for address in loaded if address.startswith("/"))


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_policy_forbids_inline_script_foreign_hosts_and_framing(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    outline = Outline(answer.text)
    assert all(script["src"] for script in outline.all("script"))
    attributes = {name for _, part in outline.elements for name in part}
    assert not {name for name in attributes if name.startswith("on") or name == "style"}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_what_a_model_team_wrote_is_shown_and_never_markup(client: httpx.Client, path: str) -> None:
    html = client.get(path).text

    assert not any(markup in html for markup in HOSTILE)
    assert "&lt;script&gt;document.title = &quot;pwned&quot;&lt;/script&gt;" in html


def test_the_card_says_what_is_served(client: httpx.Client) -> None:
    html = client.get("/").text

    for said in ("from a folder", "xgboost", "FP32", "ratio_twice", "0 to 1000", "admin port (8002)"):
        assert said in html
    assert f'href="/v2/models/{NAME}"' in html


def test_every_control_has_a_label_a_hint_and_its_place_in_the_request(client: httpx.Client) -> None:
    outline = Outline(client.get("/").text)

    controls = [part for part in outline.all("input", "select", "textarea") if "data-path" in part]
    labels = {part["for"] for part in outline.all("label") if "for" in part}
    identifiers = [part["id"] for _, part in outline.elements if "id" in part]
    assert len(identifiers) == len(set(identifiers))
    assert len(controls) == 12 + 3 + 3
    assert {control["id"] for control in controls} == labels
    assert all(control["aria-describedby"] in identifiers for control in controls)
    assert {control["data-kind"] for control in controls} == {
        "number", "integer", "boolean", "text", "choice", "bytes", "json",
    }  # fmt: skip


def test_the_form_is_filled_in_with_an_example(client: httpx.Client) -> None:
    outline = Outline(client.get("/").text)

    by_id = {part.get("id"): part for part in outline.all("input", "textarea")}
    assert by_id["wide-ratio"]["value"] == "0.0"
    assert (by_id["wide-count"]["min"], by_id["wide-count"]["max"]) == ("0", "1000")
    assert by_id["shout-code"]["value"] == "AA"
    assert by_id["shout-times"]["value"] == "1"


def test_the_reference_has_every_path_with_an_anchor(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()

    outline = Outline(client.get("/docs").text)
    names = [item[m]["operationId"] for item in document["paths"].values() for m in ("get", "post") if m in item]
    articles = [part["id"] for part in outline.all("article")]
    assert sorted(articles) == sorted(names)
    anchors = [part["href"].removeprefix("#") for part in outline.all("a") if part["href"].startswith("#")]
    assert anchors == articles


def test_a_reload_costs_a_304(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/openapi.json", "/static/pages.css", "/static/try.js"):
        first = client.get(path)
        again = client.get(path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
        changed = client.get(path, headers={"if-none-match": '"other"'})

        assert first.headers["cache-control"] == "no-cache"
        assert (again.status_code, again.content) == (304, b"")
        assert (changed.status_code, changed.content) == (200, first.content)


def test_several_services_have_a_list_and_a_card_each(tmp_path: Path) -> None:
    with (
        running(write_minimal(tmp_path / "a", "listed_a"), write_minimal(tmp_path / "b", "listed_b")) as served,
        served.client() as client,
    ):
        listed = Outline(client.get("/").text)
        card = Outline(client.get("/listed_b").text)
        answer = client.post("/listed_b/predict", json={"tenure_days": 1.0, "mean_charge": None})

    assert {"/listed_a", "/listed_b"} <= {part["href"] for part in listed.all("a")}
    assert [form["data-try"] for form in card.all("form")] == ["/listed_b/predict"]
    assert answer.status_code == 200


def test_markup_escapes_everything_but_itself() -> None:
    made = el("p", "<b>", el("i", '"&"'), None, ["<", el("br")], class_='a"b', hidden=True, title=None)

    assert made == '<p class="a&quot;b" hidden>&lt;b&gt;<i>&quot;&amp;&quot;</i>&lt;<br></p>'


def test_backticks_are_code_and_blank_lines_are_paragraphs() -> None:
    made = join(prose("Send `<x>`.\n\nOr a lone ` one."))

    assert made == "<p>Send <code>&lt;x&gt;</code>.</p><p>Or a lone ` one.</p>"


def test_a_column_without_words_is_left_out() -> None:
    made = table("T", ("Name", "Type", "Meaning"), [("a", "text", ""), ("b", "number", "")])

    assert "Meaning" not in made
    assert made.count("<td>") == 2
