"""Single genes: a value out of a list, or a number in a range, and how each is encoded."""

import itertools
import math
import reprlib
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jevo.errors import InputError
from jevo.types import Key

MAX_VALUES = 100_000
"""Of one choice."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Choice:
    """A gene that is one of some values, which may be None; one value is a fixed setting.

    Encoded as an index into `values`, int32.
    """

    values: tuple[Scalar, ...]

    @property
    def ordered(self) -> bool:
        """Whether values have neighbours: two or more numbers, ascending."""
        if len(self.values) < 2 or any(value is None or isinstance(value, str | bool) for value in self.values):
            return False
        return all(a < b for a, b in itertools.pairwise(self.values))  # pyright: ignore[reportOperatorIssue]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    @property
    def takes(self) -> str:
        """Words for what can be chosen."""
        shown = [repr(value) if value == "" else word(value) for value in self.values]
        if len(shown) > 12:
            return f"one of {', '.join(shown[:3])}, ... {shown[-1]}"
        return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)

    def tree(self) -> "Choice":
        """The gene, as it is one leaf of the encoded tree."""
        return self

    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def first(self) -> jax.Array:
        """The first value, encoded: int32 `[]`."""
        return jnp.zeros((), jnp.int32)

    def draw(self, key: Key) -> jax.Array:
        """Any value at equal odds, encoded: int32 `[]`."""
        return jax.random.randint(key, (), 0, len(self.values), jnp.int32)

    def decode(self, index: Any) -> Scalar:
        """The value at an int32 `[]`."""
        return self.values[int(index)]

    def index(self, value: Any) -> int | None:
        """Where a value is among the gene's, or None."""
        # Python takes True for 1.
        switch = isinstance(value, bool | np.bool_)
        for index, known in enumerate(self.values if value is None or np.isscalar(value) else ()):
            if value == known and isinstance(known, bool) == switch:
                return index
        return None

    def encode(self, value: Any, name: str) -> jax.Array:
        """The index of a value, int32 `[]`; an InputError names the gene `name` if there is no such value."""
        index = self.index(value)
        if index is None:
            raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")
        return jnp.asarray(index, jnp.int32)


class _Position:
    """What genes have in common that are encoded as a position in [0, 1], float32."""

    def tree(self) -> Self:
        """The gene, as it is one leaf of the encoded tree."""
        return self

    def first(self) -> jax.Array:
        """The low end, encoded: float32 `[]`."""
        return jnp.zeros((), jnp.float32)

    def draw(self, key: Key) -> jax.Array:
        """Any position at equal odds: float32 `[]`."""
        return jax.random.uniform(key, (), jnp.float32)


@dataclass(frozen=True)
class Real(_Position):
    """A gene that is a number from `low` to `high`, to 6 significant digits. Encoded as a position in [0, 1], float32.

    Attributes:
        low, high: both included.
        log: whether equal steps of the position multiply the number by equal factors; then `low` > 0.
    """

    low: float
    high: float
    log: bool = False

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return self.low < self.high

    @property
    def takes(self) -> str:
        """Words for the range."""
        return f"a number from {self.low} to {self.high}"

    def size(self) -> int | float:
        """How many values there are: taken to be inf, although rounding leaves fewer."""
        return math.inf if self.varies else 1

    def decode(self, position: Any) -> float:
        """The number at a float32 `[]`."""
        start, end = self._scale(self.low), self._scale(self.high)
        value = start + float(position) * (end - start)
        return rounded(math.exp(value) if self.log else value, self.low, self.high)

    def encode(self, value: Any, name: str) -> jax.Array:
        """The nearest position, float32 `[]`; an InputError names the gene `name` if it is out of range."""
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")
        start, end = self._scale(self.low), self._scale(self.high)
        share = (self._scale(float(value)) - start) / (end - start) if start < end else 0.0
        return jnp.asarray(min(max(share, 0.0), 1.0), jnp.float32)

    def _scale(self, value: float) -> float:
        return math.log(value) if self.log else float(value)


@dataclass(frozen=True)
class LogInteger(_Position):
    """A gene that is an integer from `low` to `high`, on a log scale. Encoded as a position in [0, 1], float32.

    An integer n has the positions that a `Real` with log has for the numbers from n - 1/2 to n + 1/2, so that the ends
    are drawn as others are.

    Attributes:
        low, high: both included, at least 1; fewer than `MAX_VALUES` integers apart, so that each has positions.
    """

    low: int
    high: int

    @property
    def values(self) -> range:
        """Every integer, ascending."""
        return range(self.low, self.high + 1)

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return self.low < self.high

    @property
    def takes(self) -> str:
        """Words for the range."""
        return f"a whole number from {self.low} to {self.high}"

    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def decode(self, position: Any) -> int:
        """The integer at a float32 `[]`."""
        above = int((self.low - 0.5) * math.expm1(float(position) * self._span))
        return self.low + min(max(above, 0), self.high - self.low)

    def encode(self, value: Any, name: str) -> jax.Array:
        """Its middle position, float32 `[]`; an InputError names the gene `name` if it is out of range."""
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not self.low <= value <= self.high:
            raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")
        above = int(value) - self.low + 0.5
        return jnp.asarray(math.log1p(above / (self.low - 0.5)) / self._span, jnp.float32)

    @property
    def _span(self) -> float:
        """Logarithm of the end of the last integer over the start of the first; exact for large integers, too."""
        return math.log1p((self.high - self.low + 1) / (self.low - 0.5))


Gene = Choice | Real | LogInteger


def word(value: Scalar) -> str:
    """A value as people read it: null, as YAML and JSON have it, for None."""
    return "null" if value is None else str(value)


def rounded(value: float, low: float, high: float) -> float:
    """To 6 significant digits, so that it reads well and JSON gives it back, and within the range."""
    return float(min(max(float(f"{value:.6g}"), low), high))
