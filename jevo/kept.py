"""Compiled programs that are kept for those who will want them again, and no more of them than a process can have."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from jevo.memory import mappings_used

Thing = TypeVar("Thing")

CROWDED = 0.5
"""The share of a process's mappings of memory that may be taken before programs have to go. On a CPU a program of a
small network has twenty, that of a large one hundreds; where there is none left, the compiler ends the process."""


class Kept(Generic[Thing]):
    """Things by name, of which those go first that nobody has asked for the longest. Threads may share it.

    Args:
        at_most: so many.

    >>> kept = Kept(2)
    >>> for name in ("one", "two", "three"):
    ...     kept.keep(name, len(name))
    >>> kept.get("one"), kept.get("two")
    (None, 3)
    """

    def __init__(self, at_most: int):
        self.at_most = at_most
        self._things: OrderedDict[Hashable, Thing] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, name: Hashable) -> bool:
        return name in self._things

    def get(self, name: Hashable) -> Thing | None:
        """The thing of this name, if it is still here."""
        with self._lock:
            if name in self._things:
                self._things.move_to_end(name)
            return self._things.get(name)

    def keep(self, name: Hashable, thing: Thing) -> None:
        """Have one more, for which others may have to go: half of them where the process has too many mappings."""
        crowded = mappings_used() > CROWDED
        with self._lock:
            self._things[name] = thing
            most = max(1, len(self._things) // 2) if crowded else self.at_most
            while len(self._things) > most:
                self._things.popitem(last=False)
