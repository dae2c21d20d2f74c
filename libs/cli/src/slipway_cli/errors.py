"""The errors of the command itself; the rest of the tree is in `slipway_bundle.errors`.

It renders nothing (`boundary.py` does). The invariant is that of the tree: stable code, exit status by family.

    UsageError
    ├── NameInvalidError        name_invalid        a name that a new service cannot have
    ├── FolderTakenError        folder_taken        something is already where a verb would write
    ├── TemplateMissingError    template_missing    no service to copy was found
    ├── DocumentError           document_invalid    an OpenAPI document that cannot be used
    └── ServiceCodeError        service_code        the code of a service cannot be imported
    HostError
    ├── HomeError               home_unknown        no folder for the store
    ├── ProgramMissingError     program_missing     an optional program is not installed
    ├── ProgramFailedError      program_failed      a program that a verb runs did not succeed
    └── UnreachableError        unreachable         a live service did not answer

`ToldError` has no code of its own: it is an error that a child process met, under the code that it had there.
"""

from msgspec import Struct

from slipway_bundle.errors import HostError, SlipwayError, UsageError


class NameInvalidError(UsageError):
    """A name that a new service cannot have."""

    code = "name_invalid"


class FolderTakenError(UsageError):
    """Something is already where a verb would write."""

    code = "folder_taken"


class TemplateMissingError(UsageError):
    """No service to copy was found."""

    code = "template_missing"


class DocumentError(UsageError):
    """An OpenAPI document that cannot be used."""

    code = "document_invalid"


class ServiceCodeError(UsageError):
    """The code of a service cannot be imported."""

    code = "service_code"


class HomeError(HostError):
    """Neither SLIPWAY_HOME nor HOME says where the store is."""

    code = "home_unknown"


class ProgramMissingError(HostError):
    """An optional program is not installed."""

    code = "program_missing"


class ProgramFailedError(HostError):
    """A program that a verb runs did not succeed."""

    code = "program_failed"


class UnreachableError(HostError):
    """A live service did not answer."""

    code = "unreachable"


class Told(Struct, frozen=True, kw_only=True):
    """An error as `SlipwayError.as_dict` gave it in another process."""

    code: str
    message: str
    exit_status: int
    hint: str | None = None
    fields: dict[str, str | int | float | bool | None] = {}


class ToldError(SlipwayError):
    """An error that a child process met and told."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.message, hint=told.hint, **told.fields)
        self._told = told
        self.exit_status = told.exit_status  # type: ignore[misc]  # a class variable elsewhere: here it is told

    def as_dict(self) -> dict[str, object]:
        """As it was told, code and status included."""
        return {**super().as_dict(), "code": self._told.code, "exit_status": self._told.exit_status}
