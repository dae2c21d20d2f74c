"""Files and folders that hold personal data: for their owner only, whatever the umask, and never through a link.

It knows nothing of what is in them. The invariants: a file is made with mode 0600 and a folder with 0700, and nothing
that others can read or write is ever used; a symbolic link where a file or folder is expected is refused, because what
is deleted or rewritten behind it is somebody else's; a file that others read changes by one rename of synced bytes.
"""

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from slipway_bundle.disk import sync_folder, write_all
from slipway_signals.capture.errors import CaptureFolderError

__all__ = [
    "FILE_MODE",
    "FOLDER_MODE",
    "create_file",
    "is_locked",
    "locked",
    "make_folder",
    "open_own",
    "read_own",
    "replace_file",
    "require_private",
]

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make_folder(path: Path) -> None:
    """Make a folder of our own, in a folder that is there; one that is there already is checked, never changed.

    Raises:
        CaptureFolderError: It cannot be made, is a link or no folder, belongs to someone else, or is open to others.
    """
    try:
        path.mkdir(mode=FOLDER_MODE)
        path.chmod(FOLDER_MODE)  # an umask may have taken our own rights away
    except FileExistsError:
        require_private(path)
    except OSError as error:
        raise CaptureFolderError(
            f"the folder {str(path)!r} cannot be made: {error.strerror}",
            hint="the folder that contains it must exist and be writable",
        ) from error


def require_private(path: Path) -> None:
    """Refuse what is not a folder or file of this user, for this user alone.

    Raises:
        CaptureFolderError: It is a link, belongs to someone else, or others may read or write it.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise CaptureFolderError(f"{str(path)!r} cannot be used: {error.strerror}") from error
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise CaptureFolderError(
            f"{str(path)!r} is a link or a special file, expected a file or folder of the capture's own",
            hint="nothing was written behind it; remove it, or name the folder it leads to",
        )
    if found.st_uid != os.geteuid():
        raise CaptureFolderError(
            f"{str(path)!r} belongs to user {found.st_uid}, expected {os.geteuid()}, the user of this process"
        )
    if found.st_mode & 0o077:
        is_folder = stat.S_ISDIR(found.st_mode)
        raise CaptureFolderError(
            f"{str(path)!r} is open to other users: mode {stat.S_IMODE(found.st_mode):04o}, expected "
            f"{'0700' if is_folder else '0600'}",
            hint=f"it holds personal data: `chmod {'700' if is_folder else '600'} {path}`",
        )


def create_file(path: Path, flags: int = os.O_WRONLY) -> int:
    """The descriptor of a new file with mode 0600; OSError when something is there already, even a dangling link."""
    descriptor = os.open(path, flags | _NEW, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def open_own(path: Path, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a file that is there; OSError when it is a link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def read_own(path: Path) -> bytes:
    """The bytes of a file that is there; OSError when it is a link."""
    with os.fdopen(open_own(path), "rb") as file:
        return file.read()


def replace_file(path: Path, data: bytes, *, through: Path | None = None) -> None:
    """Make `data` the content of `path` in one durable step, through a temporary file in the folder `through`."""
    folder = through or path.parent
    temporary = folder / f".{path.name}.{secrets.token_hex(6)}.tmp"
    descriptor = create_file(temporary)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock of `path` for the body; the file is made when it is not there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of `path`; a file that is gone has no holder."""
    try:
        descriptor = open_own(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
