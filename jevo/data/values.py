"""What the numbers of a data set are, and how others are brought to them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jevo.errors import InputError

_GRID = 1e-3
"""How far from a whole number a pixel may be, beside what float32 has rounded."""
_ROOM = 2.0**-10
"""The least that a feature's deviation may be, beside its largest value, for float32 to tell its values apart."""


class Values(NamedTuple):
    """What the numbers of a data set's examples are, as its source gives them.

    Attributes:
        dtype: their type.
        low, high: the least and the greatest of all train examples.
        black, white: what these are in pictures; None where nobody can tell.
        channels: of examples that are pictures: 1 grey, 3 RGB, 4 RGBA; 0 for others.
        first: whether channels come before height and width.
        offset: float64, of the shape of an example: what the data set has subtracted from it, so that float32 can tell
            its values apart (those of a clock, say); None where nothing needs it.
    """

    dtype: str
    low: float
    high: float
    black: float | None = None
    white: float | None = None
    channels: int = 0
    first: bool = False
    offset: np.ndarray | None = None

    def stored(self, x: np.ndarray) -> np.ndarray:
        """Examples `[n, ...]` of any type as the data set holds them: uint8, or float32 less the offset.

        Raises:
            InputError: if float32 cannot hold them.
        """
        if x.dtype == np.uint8 and self.offset is None:
            return x
        with np.errstate(over="ignore", invalid="ignore"):
            found = (x if self.offset is None else x.astype(np.float64) - self.offset).astype(np.float32)
        if not np.isfinite(found).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0])
            raise InputError(f"example {place[0]}, place {list(place[1:])}: {x[place]} is no finite float32 number")
        return found

    @property
    def ends(self) -> tuple[float, float]:
        """Black and white, or else the least and the greatest."""
        return (self.low, self.high) if self.black is None or self.white is None else (self.black, self.white)

    def picture(self, x: np.ndarray) -> np.ndarray:
        """Examples in their source's numbers as pictures `[n, height, width, channels]`, from black 0 to white 1."""
        low, high = self.ends
        return self.laid_out(((x.astype(np.float64) - low) / ((high - low) or 1.0)).astype(np.float32))

    def laid_out(self, x: np.ndarray) -> np.ndarray:
        """Pictures in the order of their source as `[n, height, width, channels]`."""
        x = x.transpose(0, 2, 3, 1) if self.first else x
        return x.reshape(*x.shape[:3], -1)

    def source(self, x: np.ndarray) -> np.ndarray:
        """Examples as the data set holds them in its source's numbers."""
        return x if self.offset is None else x.astype(np.float64) + self.offset

    def odd(self, x: np.ndarray) -> str:
        """What is odd about examples beside the train examples, as the end of a sentence, or nothing."""
        low, high, span = float(x.min()), float(x.max()), (self.high - self.low) or 1.0
        if low < self.low - span / 2 or high > self.high + span / 2:
            return f"has values from {low:g} to {high:g}, far outside those of the train examples"
        # A picture has about the contrast of another; of a table's rows, a few columns may hold nearly all the span.
        if low < high and high - low < span / (10 if self.channels else 50):
            return f"has values from {low:g} to {high:g}, next to nothing beside those of the train examples"
        return ""

    def described(self) -> str:
        """In words, for messages."""
        return f"{self.dtype} values from {self.low:g} to {self.high:g}"

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**self._asdict(), "offset": None if self.offset is None else self.offset.tolist()}

    @classmethod
    def from_json(cls, found: Any, shape: Sequence[int]) -> "Values":
        """From what `to_json` gave, for examples of `shape`.

        Raises:
            ValueError: if it is something else.
        """
        if not isinstance(found, Mapping) or set(found) != set(cls._fields):
            raise ValueError("data.values")
        offset = None if found["offset"] is None else np.asarray(found["offset"], np.float64)
        values = cls(**{**found, "offset": offset})
        ends = [values.black, values.white]
        numbers = [values.low, values.high, *(() if ends == [None, None] else ends)]
        for name, fits in {
            "dtype": isinstance(values.dtype, str) and np.dtype(values.dtype).kind in "buif",
            "low, high, black or white": all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            and (ends == [None, None] or ends[0] != ends[1]),
            "channels or first": (values.channels, values.first) == channels_of(shape),
            "offset": offset is None or (offset.shape == tuple(shape) and np.isfinite(offset).all()),
        }.items():
            if not fits:
                raise ValueError(f"data.values: {name}")
        return values


def values_of(x: np.ndarray, black: float | None = None, white: float | None = None) -> Values:
    """What the numbers of train examples are.

    Args:
        x: `[n, ...]`, as their source gives them.
        black, white: what these are in pictures, for a source that says so; else they are found by `black_and_white`.
    """
    low, high = float(x.min()), float(x.max())
    channels, first = channels_of(x.shape[1:])
    if channels and white is None:
        black, white = black_and_white(x) or (None, None)
    return Values(str(x.dtype), low, high, black, white, channels, first, _offset(x))


def black_and_white(x: np.ndarray) -> tuple[float, float] | None:
    """What black and white are in these numbers, or None where they do not tell.

    Integers have the range of so many bits as hold the greatest: 8, 10, 12, 14 or 16 (or one, if none is above 1), as
    far as their type holds so many.
    Floats are 0 to 1, -1 to 1 or 0 to 255 where they are pixels of 8 or 16 bits brought to that range, or fill it.
    Anything else, such as standardised numbers, does not tell.
    """
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind in "bui":
        tops = [2.0**bits - 1 for bits in (1, 8, 10, 12, 14, 16)]
        return next(((0.0, top) for top in tops if low >= 0 and high <= top <= limits(x.dtype)[1]), None)
    some = x[:: max(1, len(x) // 256)].astype(np.float64)

    def whole(scaled: np.ndarray) -> bool:
        return bool((abs(scaled - np.round(scaled)) < _GRID + 2e-7 * abs(scaled)).all())

    if low >= 0 and high <= 1:
        return (0.0, 1.0) if high > 0.5 or whole(some * 255) or whole(some * 65535) else None
    if low >= -1 and high <= 1:
        full = low < -0.95 and high > 0.95
        return (-1.0, 1.0) if full or (low < -0.5 and whole((some + 1) * 127.5)) else None
    return (0.0, 255.0) if low >= 0 and 16 < high <= 255 and whole(some) else None


def limits(dtype: np.dtype) -> tuple[int, int]:
    """The least and the greatest that an integer type, or truth values, can hold."""
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def channels_of(shape: Sequence[int]) -> tuple[int, bool]:
    """How many channels the pictures of a shape have, and whether these come first; 0 for what is no picture."""
    if len(shape) == 2:
        return 1, False
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return shape[2], False
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[0] < min(shape[1:]):
        return shape[0], True
    return 0, False


def _offset(x: np.ndarray) -> np.ndarray | None:
    """What to subtract from every example, or None: the mean of those features that float32 could not tell apart."""
    if x.dtype.kind in "bui" and x.dtype.itemsize <= 2:
        return None
    mean, deviation = moments(x)
    largest = np.maximum(abs(x.max(axis=0).astype(np.float64)), abs(x.min(axis=0).astype(np.float64)))
    fine = (deviation == 0) | (deviation >= _ROOM * largest)
    return None if fine.all() else np.where(fine, 0.0, mean)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature of examples `[n, ...]`, in float64 and in two passes.

    A deviation that rounding alone may have caused, of the numbers or of their sums, is 0.
    """
    n = len(x)
    # A slice at a time: a float64 copy of all images at once would be large.
    parts = np.array_split(x, max(1, n // 4096))
    with np.errstate(over="ignore", invalid="ignore"):  # Then they are infinite or NaN, and no float32 either.
        return _moments(x, parts)


def _moments(x: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    n = len(x)
    mean = np.sum([part.astype(np.float64).sum(axis=0) for part in parts], axis=0) / n
    # What is left of the mean's own rounding error goes with the second term.
    squares, rest = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    largest = np.zeros(x.shape[1:])
    for part in parts:
        centred = part.astype(np.float64) - mean
        squares += (centred**2).sum(axis=0)
        rest += centred.sum(axis=0)
        largest = np.maximum(largest, abs(part.astype(np.float64)).max(axis=0))
    deviation = np.sqrt(np.maximum(squares - rest**2 / n, 0.0) / n)
    step = np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0.0
    noise = largest * np.maximum(2 * step, n * np.finfo(np.float64).eps)
    return mean, np.where(deviation <= noise, 0.0, deviation)
