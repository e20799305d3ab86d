"""Files of a line an entry (`.jsonl`): they grow at the end, and a damaged line costs itself alone."""

import json
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jevo.data.files import atomic_write, read_file

_CHECK = "crc32"
"""The last key of every line: a checksum of the others, since a changed digit is a number, too."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file that are as they were written, none if there is no file.

    Raises:
        InputError: if something is there that is no file.
    """
    return [entry for entry in _parsed(path) if entry is not None]


def read_generations(path: Path, count: int = 0) -> list[dict[str, Any]]:
    """The lines of a metrics file, one for every generation, the first being 1.

    A line that is lost has None for whatever is asked but its generation, so that none is taken for another.

    Args:
        path: of the file.
        count: of generations; 0 for as many as the last line that is there says.
    """
    lines = {line["generation"]: line for line in read_lines(path)}
    numbers = range(1, 1 + (count or max(lines, default=0)))
    return [lines.get(n, defaultdict(lambda: None, generation=n)) for n in numbers]


def write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of entries, as JSON can hold them: whole, or not at all."""
    atomic_write(path, "".join(map(_line, entries)))


class Lines:
    """A file that takes more entries.

    Args:
        path: the file; made if need be.
        keep: which of the entries that are there stay; the others will be written again.
        durable: whether an entry is on the disk, and not only with the operating system, before `append` returns.

    Attributes:
        damaged: lines that were there and could not be read; a last one that a crash cut short is none of them.

    Raises:
        InputError: if something is there that is no file.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool] = lambda entry: True, durable: bool = False):
        raw, found = _raw(path), _parsed(path)
        cut_short = bool(found) and found[-1] is None and not raw.endswith(b"\n")
        self.damaged = found.count(None) - cut_short
        kept = "".join(_line(entry) for entry in found if entry is not None and keep(entry))
        if not path.exists() or raw != kept.encode():
            atomic_write(path, kept)
        self._file, self._durable = path.open("a", encoding="utf-8"), durable

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Write entries, as JSON can hold them."""
        self._file.write("".join(map(_line, entries)))
        self._file.flush()
        if self._durable:
            os.fsync(self._file.fileno())

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()


def _raw(path: Path) -> bytes:
    return read_file(path) if path.exists() else b""


def _parsed(path: Path) -> list[dict[str, Any] | None]:
    """The entry of every line that is not empty; None for one that cannot be read."""
    return [_entry(line) for line in _raw(path).split(b"\n") if line.strip()]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if isinstance(entry, dict) and entry.pop(_CHECK, None) == _crc32(entry) else None
    except (ValueError, RecursionError):  # No JSON, or not even text, or a number of thousands of digits.
        return None


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps({**entry, _CHECK: _crc32(entry)}) + "\n"


def _crc32(entry: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(entry).encode())
