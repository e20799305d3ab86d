"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jevo.errors import InputError


def is_file(path: Path) -> bool:
    """Whether there is a file; a path that no file can have, such as one too long, is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def expanded(path: str | Path) -> Path:
    """A path with its `~` or `~name` as the user's folder.

    Raises:
        InputError: if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such user; give the path in full") from None


def read_file(path: Path) -> bytes:
    """What is in a file.

    Raises:
        InputError: if it is a folder, a pipe or a device, from which reading might never end.
        OSError: if it is not there, or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder, a pipe or a device, not a file; move it away")
    return path.read_bytes()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end: a reader, and a crash, see the old one or the new one.

    One writer at a time. Raises `OSError` when the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    # Whatever has that name: what a crash left, or a pipe that nobody reads, or a link to another file.
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
