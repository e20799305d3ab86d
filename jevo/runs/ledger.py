"""A file of entries that grows by a line at a time and loses none: what a search has paid for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jevo.data.files import write_whole


class Ledger:
    """A `.jsonl` file. Each entry is on the disk before `add` returns; a line that a crash cut short is dropped.

    Args:
        path: the file; made if need be.
    """

    def __init__(self, path: Path):
        self.entries: list[dict[str, Any]] = []
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines(keepends=True):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break
            self.entries.append(entry)
        sound = "".join(json.dumps(entry) + "\n" for entry in self.entries)
        if sound != text:
            write_whole(path, sound)
        self._file = path.open("a")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry, as JSON can hold it (NaN included)."""
        self.entries.append(dict(entry))
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
