"""The cache folder: what jevo downloads or prepares lives here, and nowhere else."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from jevo.data.files import atomic_file

_FORMAT = b"jevo arrays 1"
"""Part of every digest: a change of what is stored makes older files count as damaged."""


def folder() -> Path:
    """The cache folder: `JEVO_CACHE`, or the user's cache folder. It may not exist yet."""
    given = os.environ.get("JEVO_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("jevo")


def read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays that `write` stored at `path`, or None when the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        return arrays if arrays.pop("digest").tobytes() == _digest(arrays) else None
    except Exception:  # whatever a damaged file made the reader stumble over, the cure is the same
        return None


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores `arrays` as an `.npz` with their digest; readers see the old file or the new one, never half.

    One writer at a time: hold a `lock`. Raises `OSError` when the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, digest=np.frombuffer(_digest(arrays), np.uint8), **arrays)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the file `path` as a lock among processes; a process that dies lets it go.

    Raises `OSError` when the folder cannot be written.
    """
    import fcntl  # POSIX only, as array_record is: a set that needs neither loads anywhere

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    """sha256 over names, types, shapes and values."""
    digest = hashlib.sha256(_FORMAT)
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data)
    return digest.digest()
