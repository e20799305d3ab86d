"""Which axes of which arrays run over the same units: an axis is a product of parts, and parts are joined."""

import math
from collections.abc import Sequence

Parts = tuple[int, ...]
"""An axis, as the parts it is the product of, the outermost first: none, for an axis of length 1."""


class Axes:
    """Parts of axes, which are joined, divided and pinned as one learns what becomes of them.

    A part that is not pinned may be renumbered, wherever it runs, at once. One that was divided is from then on the
    product of two, wherever it runs.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._pinned: list[bool] = []
        self._divided: dict[int, Parts] = {}

    def new(self, size: int, pinned: bool = False) -> Parts:
        """An axis of which nothing is known yet but its length, or that it keeps its order."""
        if size == 1:
            return ()
        self._parent.append(len(self._parent))
        self._size.append(size)
        self._pinned.append(pinned)
        return (self._parent[-1],)

    def parts(self, axis: Parts) -> Parts:
        """The axis, as the parts that are not divided any further, each under one name wherever it runs."""
        found = []
        for part in axis:
            root = self._root(part)
            found += self.parts(self._divided[root]) if root in self._divided else [root]
        return tuple(found)

    def size(self, *axes: Parts) -> int:
        """How long an axis is; of several, the product."""
        return math.prod(self._size[part] for axis in axes for part in self.parts(axis))

    def pinned(self, part: int) -> bool:
        """Whether it keeps its order."""
        return self._pinned[self._root(part)]

    def pin(self, *axes: Parts) -> None:
        """They keep their order."""
        for axis in axes:
            for part in self.parts(axis):
                self._pinned[part] = True

    def join(self, one: Parts, other: Parts) -> None:
        """They are equally long, and run over the same units. Where their parts do not fit, they are pinned."""
        left, right = self.parts(one), self.parts(other)
        while left and right:
            a, b = left[-1], right[-1]  # The innermost.
            common = math.gcd(self._size[a], self._size[b])
            if common == 1:
                self.pin(left, right)
                return
            if self._size[a] == self._size[b]:
                self._parent[a] = b
                self._pinned[b] |= self._pinned[a]
                left, right = left[:-1], right[:-1]
            for part in {a, b}:
                if self._size[part] != common:
                    self._divide(part, self._size[part] // common)
            left, right = self.parts(left), self.parts(right)

    def cut(self, axes: Sequence[Parts], sizes: Sequence[int]) -> list[Parts] | None:
        """The axes' elements, in their order, as axes of other sizes; None if the parts do not fit into these."""
        rest, found = [part for axis in axes for part in self.parts(axis)][::-1], []
        for size in sizes:
            piece = []
            while size > 1:
                part = rest.pop()
                if part in self._divided:  # A moment ago: it runs here more than once.
                    rest += self.parts((part,))[::-1]
                    continue
                if self._size[part] > size and self._size[part] % size == 0:
                    self._divide(part, size)
                    rest.append(part)
                    continue
                if size % self._size[part]:
                    return None
                piece.append(part)
                size //= self._size[part]
            found.append(tuple(piece))
        return found

    def _root(self, part: int) -> int:
        while self._parent[part] != part:
            part = self._parent[part]
        return part

    def _divide(self, part: int, outer: int) -> None:
        pinned, size = self._pinned[part], self._size[part]
        self._divided[part] = (*self.new(outer, pinned), *self.new(size // outer, pinned))
