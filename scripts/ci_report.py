"""One count of many runs of pytest, the exit status of all, and what was not run. It runs nothing.

The invariant: where the status is not 0, the count has a failure or an error.
"""

import re
from collections import Counter
from typing import Final

OUT_OF_TIME: Final = 124
"""Exit status of what was ended, as `timeout` has it."""
ORDER: Final = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error", "rerun")
"""Words of pytest's last line, in pytest's order."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_COUNTS: Final = re.compile(r"^=+ (?P<counts>\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s(?: \([\d:]+\))? =+$", re.MULTILINE)
_COLLECTED: Final = re.compile(r"^(?:(\d+)(?:/\d+)? tests? collected|(no) tests collected)\b", re.MULTILINE)


def counts_of(output: str) -> Counter[str]:
    """What the last lines of all runs of pytest in `output` say together: word, in the singular, -> number.

    Without what they deselected: it is what another run runs.
    """
    found: Counter[str] = Counter()
    for line in _COUNTS.finditer(_COLOUR.sub("", output)):
        for count in line["counts"].split(", "):
            number, word = count.split()
            found[word if word.endswith("ed") else word.rstrip("s")] += int(number)
    del found["deselected"]
    return found


def number_collected(output: str) -> int | None:
    """How many tests `pytest --collect-only -q` found; None: it does not say."""
    found = _COLLECTED.search(_COLOUR.sub("", output))
    return None if found is None else int(found[1] or 0)


def line_of(counts: Counter[str], seconds: float) -> str:
    """As pytest writes its last line."""
    words = [f"{counts[word]} {_plural(word, counts[word])}" for word in ORDER if counts[word]]
    return f"{', '.join(words) or 'no tests ran'} in {seconds:.2f}s"


class Report:
    """What is known so far."""

    def __init__(self) -> None:
        self.status = 0
        """Of the first part that failed."""
        self.counts: Counter[str] = Counter()
        self._notes: list[str] = []

    def add(self, name: str, output: str, status: int, limit_s: float) -> None:
        """A part that ended, after `limit_s` seconds at most."""
        counts = counts_of(output)
        self.counts += counts
        if status == OUT_OF_TIME:
            self.fail(f"{name} did not end in {limit_s / 60:.0f} min", status)
        elif status:
            self.fail(name, status, is_counted=bool(counts["failed"] or counts["error"]))

    def fail(self, what: str, status: int, *, is_counted: bool = False) -> None:
        """Something that is wrong, which pytest counted or did not."""
        self.status = self.status or status
        self.counts["error"] += not is_counted
        self.note(f"FAILED: {what} (status {status})")

    def leave_out(self, name: str, tests: int, why: str) -> None:
        """A part that was not run."""
        self.counts["skipped"] += tests
        self.note(f"not run: {name}, {tests} tests: {why}")

    def deselect(self, tests: int) -> None:
        """Tests that no part runs."""
        self.counts["deselected"] += tests

    def note(self, text: str) -> None:
        """Words for the end."""
        self._notes.append(text)

    def lines(self, seconds: float) -> list[str]:
        """The end: what is to be known on one line, and the count after `seconds` in all."""
        return [*(["ci: " + "; ".join(self._notes)] if self._notes else []), line_of(self.counts, seconds)]


def _plural(word: str, number: int) -> str:
    return f"{word}s" if word in {"warning", "error"} and number != 1 else word
