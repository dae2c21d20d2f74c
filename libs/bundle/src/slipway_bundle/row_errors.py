"""`RowError`: one row is not acceptable, and the place in it that says why; `OutputError`: a whole answer is not.

It knows nothing of batches: who packs or checks says which row. The invariant: `path` is a JSON path into the row
(`$.income`, `$.pixels[0][3]`), `got` is short enough to log, and making the error never fails.
"""

from collections.abc import Iterable

from slipway_bundle.errors import SlipwayError

_GOT_LENGTH = 80


class RowError(SlipwayError):
    """A row that cannot be packed, or one row of an answer that breaks its own schema.

    Args:
        message: The whole sentence.
        path: JSON path of the offending value.
        got: What was there, shortened.
        expected: What should have been there.
    """

    code = "row_invalid"
    exit_status = 1

    def __init__(
        self, message: str, *, path: str = "$", got: str = "", expected: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, path=path, got=got, expected=expected)
        self.path = path
        self.got = got
        self.expected = expected


class OutputError(SlipwayError):
    """What a model returned cannot be its answer for any row: a missing name, another shape, another kind of number."""

    code = "output_invalid"
    exit_status = 1


class Said(str):
    """Words of ours in the place of a value: shown without quotes."""

    __slots__ = ()

    __repr__ = str.__str__


def row_error(path: str, got: object, expected: str, *, where: str = "") -> RowError:
    """The error for a value `got` at `path`; `where` ends the sentence (" in row 3 of tensor `income`")."""
    shown = short(got)
    return RowError(f"`{path}` got {shown}, expected {expected}{where}", path=path, got=shown, expected=expected)


def place_path(name: str, place: Iterable[int]) -> str:
    """The JSON path of an element inside a field: `$.pixels[0][3]`."""
    return f"$.{name}{''.join(f'[{index}]' for index in place)}"


def short(value: object) -> str:
    """The value's `repr`, cut to a length that a log line takes; huge integers are described, not printed."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _GOT_LENGTH else f"{text[: _GOT_LENGTH - 1]}…"
