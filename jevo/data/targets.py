"""What a regression is to say: real numbers, of one column or more, and the scale on which a network learns them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jevo.data.values import moments
from jevo.errors import InputError

MOST = 10_000
"""Numbers that an example may have to say, at most."""


class Targets(NamedTuple):
    """The numbers that a regression says of an example, as the source gives them.

    Attributes:
        names: of each.
        mean, scale: float64, of the train examples: a network learns `(y - mean) / scale`.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def standardised(self, y: np.ndarray) -> np.ndarray:
        """Targets `[n, targets]` as a network learns them: float32."""
        return ((y - np.array(self.mean)) / np.array(self.scale)).astype(np.float32)

    def source(self, outputs: np.ndarray) -> np.ndarray:
        """What a network says `[n, targets]` in the numbers of the source: float64."""
        return outputs.astype(np.float64) * np.array(self.scale) + np.array(self.mean)

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {name: list(value) for name, value in self._asdict().items()}

    @classmethod
    def from_json(cls, found: Any) -> "Targets":
        """From what `to_json` gave.

        Raises:
            ValueError: if it is something else.
        """
        if not isinstance(found, Mapping) or set(found) != set(cls._fields):
            raise ValueError("data.targets")
        names, mean, scale = (found[name] for name in cls._fields)
        texts = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
        numbers = all(
            isinstance(values, list) and all(type(n) in (int, float) and math.isfinite(n) for n in values)
            for values in (mean, scale)
        )
        if not texts or not numbers or not len(names) == len(mean) == len(scale) or min(scale) <= 0:
            raise ValueError("data.targets")
        return cls(tuple(names), tuple(mean), tuple(scale))


def learnt(y: np.ndarray, targets: Targets | None) -> np.ndarray:
    """Labels of a data set as a network learns them: classes as they are, targets standardised."""
    return y if targets is None else targets.standardised(y)


def from_array(name: str, y: np.ndarray) -> np.ndarray:
    """Targets `[n]` or `[n, targets]` as float64 `[n, targets]`.

    Raises:
        InputError: for any other shape, or if one is no finite number.
    """
    if y.dtype.kind not in "buif":
        raise InputError(f"{name} must hold numbers for a regression, not {y.dtype} values")
    y = y.reshape(len(y), -1) if y.ndim == 1 else y
    if y.ndim != 2 or not 1 <= y.shape[1] <= MOST:
        raise InputError(f"{name} must be [examples] or [examples, targets] for a regression, not shape {y.shape}")
    y = y.astype(np.float64)
    fine = np.abs(y) <= np.finfo(np.float32).max
    if not fine.all():
        row, column = (int(i) for i in np.argwhere(~fine)[0])
        raise InputError(f"{name}[{row}, {column}] is {y[row, column]}, no finite float32 number; drop those examples")
    return y


def written(value: float, scale: float) -> str:
    """An estimate in as many digits as tell it from others of a target of such a deviation."""
    size = max(abs(value), scale)
    digits = 6 if not math.isfinite(size) else min(17, max(6, 5 + math.ceil(math.log10(size / scale))))
    return f"{value:.{digits}g}"


def targets_of(where: str, names: Sequence[str], y: np.ndarray) -> Targets:
    """What train targets `[n, targets]` are.

    Raises:
        InputError: if one of them is the same for all examples.
    """
    mean, deviation = moments(y)
    if (deviation == 0).any():
        i = int(np.argmin(deviation))
        raise InputError(f"{where}: the target {names[i]!r} is {y[0, i]:g} in all train examples: nothing to learn")
    return Targets(tuple(names), tuple(mean.tolist()), tuple(deviation.tolist()))


def described(names: Sequence[str], y: np.ndarray) -> str:
    """The targets and their range, in words."""
    listed = [
        f"{name[:40]} {low:.10g} to {high:.10g}" for name, low, high in zip(names, y.min(0), y.max(0), strict=True)
    ]
    return f"{', '.join(listed[:10])}{', ...' if len(listed) > 10 else ''}"
