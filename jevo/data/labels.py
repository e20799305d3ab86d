"""What labels are: one rule for every kind of file. Classes have names; numbers with fractions are no classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jevo.errors import InputError

_MISSING = frozenset({"", "?", "--", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null"})
"""How a missing label is written, in any case; and Python's None, but not the word none, which names classes."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CODE = re.compile(r"0\d+", re.ASCII)
"""Leading zeros belong to a code, as 01 of 99: it is a name."""
_LETTERS = re.compile(r"\d+[eE]\d+", re.ASCII)
"""Such as 1E3 among 1A3 and 1B3: whoever writes a number with an exponent writes a point, or a sign before that."""


class Labels(NamedTuple):
    """The labels of one part: example i has `values[codes[i]]`."""

    values: Sequence[str]
    codes: np.ndarray


class Source(NamedTuple):
    """How to speak of where labels come from.

    Attributes:
        name: of the file.
        column: of the labels, in a table.
        place: `(part, example) -> "line 5"`.
        advice: how else to go on, where labels are no classes.
    """

    name: str
    column: str
    place: Callable[[str, int], str]
    advice: str = ""

    @property
    def where(self) -> str:
        """The file, and the column."""
        return f"{self.name}: column {self.column!r}" if self.column else self.name


def number(text: str) -> float:
    """A number in plain decimal notation; NaN for all else, whatever Python might make of it."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else np.nan


def from_array(name: str, y: np.ndarray) -> Labels:
    """Labels `[n]`, `[n, 1]` or one-hot `[n, k]`: whole numbers, truth values, text, or bytes of text.

    Raises `InputError` for any other shape or type.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "buif":
        if not (((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()):
            raise InputError(f"{name} has shape {y.shape}: it must hold one label per example, or one 1 among 0s")
        y = y.argmax(axis=1)
    if y.ndim != 1:
        raise InputError(f"{name} must hold one label per example, not shape {y.shape}")
    if y.dtype.kind not in "biufUS":
        raise InputError(f"{name} must hold whole numbers or strings, one class each, not {y.dtype} values")
    values, codes = np.unique(y, return_inverse=True)
    if y.dtype.kind == "S":
        try:
            return Labels([value.decode() for value in values.tolist()], codes)
        except UnicodeDecodeError:
            raise InputError(f"{name} holds bytes that are no UTF-8 text; name the classes in plain text") from None
    return Labels([str(value) for value in values.tolist()], codes)


def classes(source: Source, labels: Mapping[str, Labels]) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """The class names, in order of number or alphabet, the labels of each part as their indices, and what to say.

    Whole numbers are one class however they are written: 5, 5.0, +5.

    Raises `InputError` for missing labels, a regression, labels that are (nearly) all different, a class that is
    written in two ways, fewer than two classes, or a class without a train example.
    """
    named = {part: [_name(value) for value in found.values] for part, found in labels.items()}
    every = sorted({name for names in named.values() for name in names})
    _refuse_missing(source, labels, named, signs="+" in every)
    _refuse_numbers(source, labels, named)
    seen: dict[float, str] = {}
    # Codes that look like numbers with an exponent are not each other's twins, but may be a plain number's.
    for name in sorted(every, key=lambda name: bool(_LETTERS.fullmatch(name))):
        value = number(name)
        if _LETTERS.fullmatch(name) and value not in seen:
            continue
        if not np.isnan(value) and seen.setdefault(value, name) != name:
            raise InputError(
                f"{source.where}: the labels {seen[value]!r} and {name!r} look like one class written in two ways; "
                "write it in one"
            )
    present = {part: sorted({names[i] for i in np.unique(labels[part].codes)}) for part, names in named.items()}
    names = sorted(present["train"], key=lambda name: (np.nan_to_num(_value(name), nan=np.inf), name))
    if len(names) < 2:
        raise InputError(f"{source.where}: needs at least two classes, but every train label is {names[0]!r}")
    index = {name: i for i, name in enumerate(names)}
    for part, found in present.items():
        if unknown := [name for name in found if name not in index]:
            raise InputError(f"{source.where}: {part} has the class {unknown[0]!r}, of which train has no example")
    indices = {
        part: np.array([index.get(name, -1) for name in named[part]], np.int32)[found.codes]
        for part, found in labels.items()
    }
    counts = np.bincount(indices["train"], minlength=len(names))
    if (counts == 1).sum() > len(indices["train"]) / 2:
        raise InputError(
            f"{source.where}: {(counts == 1).sum():,} of {len(indices['train']):,} labels occur once only: that looks "
            f"like the names of rows, or a regression, not like classes; {source.advice or 'group them into classes'}; "
            "for a regression set goal to regression"
        )
    folded: dict[str, str] = {}
    twins = [(folded[n.casefold()], n) for n in names if folded.setdefault(n.casefold(), n) != n]
    return tuple(names), indices, [f"the classes {a!r} and {b!r} differ in case only" for a, b in twins[:3]]


def _value(name: str) -> float:
    """The number that a label is; NaN for a word, and for a code of digits and an E."""
    return np.nan if _LETTERS.fullmatch(name) else number(name)


def _name(value: str) -> str:
    """The name of the class that a label is written for."""
    name = value.strip()
    found = _value(name)
    if np.isnan(found) or _CODE.fullmatch(name) or not found.is_integer():
        return name
    return str(int(name)) if re.fullmatch(r"[+-]?\d+", name) else str(int(found))


def _first(labels: Mapping[str, Labels], wanted: Mapping[str, Sequence[bool]]) -> tuple[str, int, int]:
    """The part and the index of the first example with a wanted label, and how many there are."""
    hits = {part: np.flatnonzero(np.array(wanted[part], bool)[found.codes]) for part, found in labels.items()}
    part = next((part for part, found in hits.items() if len(found)), "")
    return part, int(hits[part][0]) if part else 0, sum(len(found) for found in hits.values())


def _refuse_missing(source: Source, labels: Mapping[str, Labels], named: Mapping[str, list[str]], signs: bool) -> None:
    def missing(name: str) -> bool:
        return name.lower() in _MISSING or name == "None" or (name == "-" and not signs)

    part, first, count = _first(labels, {part: [missing(name) for name in names] for part, names in named.items()})
    if count:
        label = named[part][labels[part].codes[first]]
        column = f" in column {source.column!r}" if source.column else ""
        raise InputError(
            f"{source.name}: {source.place(part, first)} has no label{column} ({label!r}), as {count:,} "
            f"example{'s have' if count > 1 else ' has'} in all; drop or fill those rows"
        )


def _refuse_numbers(source: Source, labels: Mapping[str, Labels], named: Mapping[str, list[str]]) -> None:
    """Refuses what has fractions, unless most labels are words."""
    fraction = {part: [(not np.isnan(v := _value(n)) and not v.is_integer()) or _infinite(n) for n in names]
                for part, names in named.items()}  # fmt: skip
    part, first, count = _first(labels, fraction)
    words = _first(labels, {part: [np.isnan(_value(n)) for n in names] for part, names in named.items()})[2]
    if count and count >= words:
        different = len({name for names in named.values() for name in names})
        raise InputError(
            f"{source.where}: the labels are no whole numbers ({source.place(part, first)}: "
            f"{named[part][labels[part].codes[first]]}; {different:,} different ones): that is a regression; "
            f"set goal to regression, or sort the numbers into classes"
            f"{', or ' + source.advice if source.advice else ''}"
        )


def _infinite(name: str) -> bool:
    return name.lower().lstrip("+-") in ("inf", "infinity")
