"""Files of a line an entry (`.jsonl`): they grow at the end, and lose no more than a line that a crash cut short."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jevo.data.files import atomic_write


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a file, none if there is no file; a line that is cut short ends it."""
    entries = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


class Lines:
    """A file that takes more entries.

    Args:
        path: the file; made if need be.
        keep: which of the entries that are there stay; the others will be written again.
        durable: whether an entry is on the disk, and not only with the operating system, before `append` returns.
    """

    def __init__(self, path: Path, keep: Callable[[dict[str, Any]], bool] = lambda entry: True, durable: bool = False):
        kept = "".join(json.dumps(entry) + "\n" for entry in read_lines(path) if keep(entry))
        if not path.exists() or path.read_text() != kept:
            atomic_write(path, kept)
        self._file, self._durable = path.open("a"), durable

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write entries, as JSON can hold them."""
        self._file.write("".join(json.dumps(entry) + "\n" for entry in entries))
        self._file.flush()
        if self._durable:
            os.fsync(self._file.fileno())

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
