"""The forms in which a request with bytes may arrive: JSON, `multipart/form-data`, or the bytes themselves.

A request Struct decides: without a `bytes` field only JSON is read; with one, a form with one part a field too; and
when the only required field is bytes, the bare body under its own media type. The invariant: whatever the form, the
same value passes the same checks, and an error names the field. Sizes of bodies are the route's business; this file
bounds what is inside: parts, and their headers. It does not block: big forms are parsed in a thread.

Sources: RFC 7578 (`multipart/form-data`), RFC 2046 5.1.1 (boundaries), https://multipart.readthedocs.io.
"""

import math
from typing import Any, Final, Literal

import msgspec
import multipart  # type: ignore[import-untyped]  # one annotated module, without the marker file
from msgspec import Struct, inspect

from slipway_bundle.array_json import decode_array
from slipway_serve.concurrency import Offloader
from slipway_serve.problems import Problem

JSON_TYPE: Final = "application/json"
FORM_TYPE: Final = "multipart/form-data"
RAW_TYPES: Final = ("application/octet-stream", "image/*", "application/pdf")
"""Media types of a body that is the value of one field."""
MAX_PARTS: Final = 128
MAX_HEADERS: Final = 8
"""Of one part; RFC 7578 knows three."""
MAX_HEADER_BYTES: Final = 1_024
"""Of one header line of a part, and of the content-type that names the boundary: options are found by a regular
expression whose worst case is quadratic."""
OFFLOAD_BYTES: Final = 256 * 1024
"""Forms from this size on are parsed in a thread: a hostile 8 MiB costs 25 ms."""
PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})
UTF8: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})

Kind = Literal["bytes", "text", "json"]

_TEXTS: Final = (
    inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.LiteralType, inspect.EnumType,
    inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType,
    inspect.DecimalType, inspect.NoneType,
)  # fmt: skip
"""What is one word; everything else in a part is JSON."""
_BYTES: Final = (inspect.BytesType, inspect.ByteArrayType, inspect.MemoryViewType)


class PartField(Struct, frozen=True):
    """One field of a request Struct, as parts of a form."""

    name: str
    """The name in JSON and of the part."""
    kind: Kind
    is_many: bool
    """A list: each part of this name is one item."""
    refuses_nan: bool
    """The text is a number, and JSON has no NaN."""
    is_required: bool


class BodyForms:
    """Decodes the bodies of one endpoint, in each of its forms.

    Args:
        takes: the request type; any that msgspec decodes.
    """

    def __init__(self, takes: Any) -> None:
        self._takes = takes
        self._decode_json = msgspec.json.Decoder(takes, dec_hook=decode_array).decode
        self.fields: Final = part_fields(takes)
        """What a form of this request holds; empty when only JSON is read."""
        self.raw: Final = raw_field(self.fields)
        """The field that a bare body is; None when it takes more than that."""
        names = [JSON_TYPE]
        if self.fields:
            names.append(FORM_TYPE)
        if self.raw is not None:
            names += RAW_TYPES
        self.media_types: Final = tuple(names)
        """In the order in which they are offered; `image/*` stands for every image."""

    @property
    def accepts(self) -> tuple[bytes, ...]:
        """The same for a `Route`."""
        return tuple(name.encode() for name in self.media_types)

    async def read(self, body: bytes, content_type: bytes, offloader: Offloader) -> Any:
        """The request; a big form is parsed in a thread.

        Args:
            body: all of it.
            content_type: the header, one that a `Route` with `accepts` let through.
            offloader: its threads.

        Raises:
            Problem: 400, the form is malformed; 413, it has too many parts; 503, all threads are busy.
            msgspec.ValidationError: the request does not fit its type.
            msgspec.DecodeError: it is not JSON.
        """
        if len(body) >= OFFLOAD_BYTES and content_type[: len(FORM_TYPE)].lower() == FORM_TYPE.encode():
            return await offloader.run(self.decode, body, content_type)
        return self.decode(body, content_type)

    def decode(self, body: bytes, content_type: bytes) -> Any:
        """The same in this thread."""
        essence = content_type.split(b";", 1)[0].strip().lower()
        if not self.fields or essence == JSON_TYPE.encode():
            return self._decode_json(body)
        if essence == FORM_TYPE.encode():
            values = self._values(_parts(body, _boundary(content_type)))
            return msgspec.convert(values, self._takes, strict=False, dec_hook=decode_array)
        if self.raw is None:
            raise TypeError(f"this is a bug in slipway: a route let {essence!r} through")
        return msgspec.convert({self.raw.name: body}, self._takes)

    def _values(self, parts: dict[str, list["Part"]]) -> dict[str, Any]:
        """Name → what msgspec converts; parts that no field has are left for the Struct to judge."""
        known = {field.name: field for field in self.fields}
        values: dict[str, Any] = {}
        for name, given in parts.items():
            field = known.get(name)
            if field is None:  # a tag, or a stranger that the Struct may forbid
                values[name] = given[0].content.decode(errors="replace")
                continue
            found = [part for part in given if not part.is_unchosen]
            if field.is_many and len(found) == 1 and found[0].is_json:
                values[name] = _json_of(found[0], name)
            elif field.is_many:
                values[name] = [_value_of(part, field) for part in found]
            elif len(found) > 1:
                raise mismatch(name, f"Expected one part, got {len(found)}")
            elif found:
                values[name] = _value_of(found[0], field)
        return values


class Part(Struct):
    """One part of a form."""

    content: bytes
    content_type: str
    charset: str
    filename: str | None

    @property
    def is_json(self) -> bool:
        """Its own header says that it is JSON."""
        return self.content_type == JSON_TYPE

    @property
    def is_unchosen(self) -> bool:
        """What browsers send for a file input that is empty."""
        return self.filename == "" and not self.content


def part_fields(takes: Any) -> tuple[PartField, ...]:
    """The fields of a request as parts; empty unless it is a Struct with a bytes field, or with a list of bytes."""
    info = inspect.type_info(takes)
    if isinstance(info, inspect.Metadata):
        info = info.type
    if not isinstance(info, inspect.StructType) or info.array_like:
        return ()
    fields = tuple(_field(field) for field in info.fields)
    return fields if any(field.kind == "bytes" for field in fields) else ()


def raw_field(fields: tuple[PartField, ...]) -> PartField | None:
    """The field that a bare body is: the only required one, when it is bytes."""
    required = [field for field in fields if field.is_required]
    return required[0] if len(required) == 1 and required[0].kind == "bytes" and not required[0].is_many else None


def mismatch(name: str, detail: str) -> Problem:
    """A field of a form that does not fit, in the words and with the code of every other such error."""
    return Problem(422, "schema_mismatch", detail, path=f"$.{name[:100]}")


def _field(field: inspect.Field) -> PartField:
    kinds = _members(field.type)
    many = [kind for kind in kinds if isinstance(kind, inspect.CollectionType)]
    is_many = len(kinds) == 1 and len(many) == 1
    if is_many:
        kinds = _members(many[0].item_type)
    kind: Kind = "json"
    if any(isinstance(member, _BYTES) for member in kinds):
        kind = "bytes"
    elif all(isinstance(member, _TEXTS) for member in kinds):
        kind = "text"
    refuses_nan = any(isinstance(member, inspect.FloatType) for member in kinds) and not any(
        isinstance(member, inspect.StrType) for member in kinds
    )
    return PartField(field.encode_name, kind, is_many, refuses_nan, field.required)


def _members(kind: inspect.Type) -> list[inspect.Type]:
    """What a value may be, without null."""
    if isinstance(kind, inspect.Metadata):
        return _members(kind.type)
    if isinstance(kind, inspect.UnionType):
        members = [inner for member in kind.types for inner in _members(member)]
        return [member for member in members if not isinstance(member, inspect.NoneType)]
    return [kind]


def _boundary(content_type: bytes) -> str:
    header = content_type.decode("latin-1")
    boundary = ""
    if len(header) <= MAX_HEADER_BYTES:
        boundary = multipart.parse_options_header(header)[1].get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise Problem(400, "form_invalid", f"content-type is {header[:100]!r}, expected a boundary of 1 to 70 letters")
    return boundary


def _parts(body: bytes, boundary: str) -> dict[str, list[Part]]:
    """Name → its parts, in their order."""
    found: dict[str, list[Part]] = {}
    part: Part | None = None
    parser = multipart.PushMultipartParser(
        boundary,
        max_header_size=MAX_HEADER_BYTES,
        max_header_count=MAX_HEADERS,
        max_segment_count=MAX_PARTS,
        strict=True,
    )
    try:
        with parser:
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    part = _begin(event)
                    found.setdefault(event.name or "", []).append(part)
                elif event and part is not None:
                    part.content += event  # one piece a part, because the body is one chunk: nothing is copied
    except multipart.ParserLimitReached as error:
        hint = f"at most {MAX_PARTS} parts, {MAX_HEADERS} headers a part, {MAX_HEADER_BYTES} bytes a header"
        raise Problem(413, "form_too_large", f"the form is larger than allowed: {error}", hint=hint) from error
    except multipart.MultipartError as error:
        raise Problem(400, "form_invalid", f"the body is not a valid {FORM_TYPE}: {error}") from error
    return found


def _begin(segment: Any) -> Part:  # a `MultipartSegment`, whose module is untyped
    """The part that a segment's headers announce; an encoding that is not undone here is refused, never guessed."""
    name = (segment.name or "")[:100]
    encoding = next((value for key, value in segment.headerlist if key == "Content-Transfer-Encoding"), "")
    if encoding.strip().lower() not in PLAIN_ENCODINGS:
        detail = f"part {name!r} has the transfer encoding {encoding[:40]!r}, expected its bytes as they are"
        raise Problem(400, "form_invalid", detail, hint="RFC 7578 section 4.7 deprecates it; send binary")
    return Part(b"", segment.content_type or "", (segment.charset or "").lower(), segment.filename)


def _value_of(part: Part, field: PartField) -> Any:
    """What msgspec converts to one value of this field."""
    if field.kind == "bytes":
        return part.content
    if field.kind == "json":
        return _json_of(part, field.name)
    text = _text_of(part, field.name)
    if field.refuses_nan and _is_not_finite(text):
        raise mismatch(field.name, f"Expected a finite number, got {text[:40]!r}")
    return text


def _text_of(part: Part, name: str) -> str:
    if part.charset not in UTF8:
        raise mismatch(name, f"Expected text in UTF-8, got the charset {part.charset[:40]!r}")
    try:
        return part.content.decode()
    except UnicodeDecodeError as error:
        raise mismatch(name, "Expected text in UTF-8, got other bytes") from error


def _json_of(part: Part, name: str) -> Any:
    try:
        return msgspec.json.decode(part.content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise mismatch(name, f"Expected JSON in this part: {error}") from error


def _is_not_finite(text: str) -> bool:
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False
