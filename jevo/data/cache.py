"""The cache folder: what jevo downloads or prepares lives here, and nowhere else."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from jevo.data.files import atomic_file, expanded

_FORMAT = b"jevo arrays 1"
"""Part of every digest: a change of what is stored makes older files count as damaged."""


def folder() -> Path:
    """The cache folder: `JEVO_CACHE`, or the user's cache folder. It may not exist yet."""
    given = os.environ.get("JEVO_CACHE")
    return expanded(given) if given else platformdirs.user_cache_path("jevo")


def read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays that `write` stored at `path`, or None when the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        return arrays if arrays.pop("digest").tobytes() == digest(arrays) else None
    except Exception:  # whatever a damaged file made the reader stumble over, the cure is the same
        return None


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores `arrays` as an `.npz` with their digest; readers see the old file or the new one, never half.

    One writer at a time: hold a `lock`. Raises `OSError` when the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, digest=np.frombuffer(digest(arrays), np.uint8), **arrays)


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds the file `path` as a lock among processes; a process that dies, however it may, lets it go.

    Where the file system has no locks, it is held without a word: two at once are then the user's to avoid.

    Args:
        path: the file, which stays when the lock is let go.
        wait: whether to wait for a process that holds it.

    Raises:
        BlockingIOError: when another holds it, and this one does not wait.
        OSError: when the folder cannot be written.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    # A soft lock, a file that is there or not, would stay behind a process that was killed.
    held = filelock.FileLock(path, timeout=-1 if wait else 0, thread_local=False, fallback_to_soft=False)
    try:
        held.acquire()
    except filelock.Timeout:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path)) from None
    except OSError as error:
        # As on some network file systems, such as a notebook's Google Drive.
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
            raise
    try:
        yield
    finally:
        held.release()


def digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """sha256 over names, types, shapes and values."""
    found = hashlib.sha256(_FORMAT)
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        found.update(f"{key} {array.dtype.str} {array.shape} ".encode())
        found.update(array.data)
    return found.digest()
