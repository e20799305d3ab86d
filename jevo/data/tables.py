"""Users' own data: `.npz` and `.csv` files, checked, with every fault named by its place."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jevo.errors import InputError

_LABELS = ("label", "class", "target", "y")
"""The names of a label column, the first that is there counts; else it is the last column."""


class Table(NamedTuple):
    """What a file holds: `parts` maps train, and perhaps validation and test, to `(x, y)`.

    `x` is `[n, ...]` uint8 or float32, `y` int32 `[n]`, an index into `classes`.
    """

    parts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    note: str


def read_table(path: Path) -> Table:
    """Reads a `.npz` (x_train, y_train; optional x_validation, y_validation, x_test, y_test) or a `.csv`.

    Raises `InputError` when the file is missing or damaged, its parts disagree, a value is no finite
    number, or there are fewer than two classes.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        return _read_csv(path) if path.suffix.lower() == ".csv" else _read_npz(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {_line(error)}") from error


def _read_npz(path: Path) -> Table:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = set(stored.files)
            known = [f"{axis}_{part}" for part in ("train", "validation", "test") for axis in "xy"]
            arrays = {key: stored[key] for key in known if key in found}
    except Exception as error:  # a damaged file, objects (never unpickled), one bare array: each its own type
        raise InputError(f"{path}: is no .npz of plain arrays, or is damaged: {_line(error)}") from error
    parts = {}
    for part in ("train", "validation", "test"):
        x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if x is None and y is None and part != "train":
            continue
        if x is None or y is None:
            missing = f"{'x' if x is None else 'y'}_{part}"
            raise InputError(f"{path}: {missing} is missing; the file holds {', '.join(sorted(found)) or 'nothing'}")
        parts[part] = _features(path, f"x_{part}", x), y
        if y.ndim != 1:
            raise InputError(f"{path}: y_{part} must hold one label per example, not shape {y.shape}")
        if len(x) != len(y) or not len(x):
            raise InputError(f"{path}: x_{part} has {len(x)} examples and y_{part} has {len(y)} labels")
        if x.shape[1:] != parts["train"][0].shape[1:]:
            raise InputError(
                f"{path}: an example of x_{part} has shape {x.shape[1:]}, one of x_train {parts['train'][0].shape[1:]}"
            )
    names, labels = _classes(path, {part: _label_names(path, part, y) for part, (_, y) in parts.items()})
    return Table({part: (x, labels[part]) for part, (x, _) in parts.items()}, names, "")


def _features(path: Path, key: str, x: np.ndarray) -> np.ndarray:
    """`x` as uint8 where it is that, else as finite float32."""
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise InputError(f"{path}: {key} must be [examples, ...], not shape {x.shape}")
    if x.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} must hold numbers, not {x.dtype}")
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):
        result = x.astype(np.float32)
    if not np.isfinite(result).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise InputError(f"{path}: {key}{list(place)} is {x[place]}, which is no finite float32; clean or drop it")
    return result


def _label_names(path: Path, part: str, y: np.ndarray) -> list[str]:
    if y.dtype.kind in "biuU":
        return [str(label) for label in y.tolist()]
    if y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.round(y)).all():
        return [str(int(label)) for label in y]
    raise InputError(f"{path}: y_{part} must hold whole numbers or strings, one class each, not {y.dtype} values")


def _classes(path: Path, labels: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The class names, in order of number or alphabet, and the labels of each part as their indices."""
    names = sorted(set(labels["train"]), key=lambda name: (np.nan_to_num(_number(name), nan=np.inf), name))
    if len(names) < 2:
        raise InputError(f"{path}: needs at least two classes, but every train label is {names[0]!r}")
    index = {name: i for i, name in enumerate(names)}
    for part, found in labels.items():
        if unknown := sorted(set(found) - set(names)):
            raise InputError(f"{path}: y_{part} has the class {unknown[0]!r}, of which y_train has no example")
    return tuple(names), {part: np.array([index[f] for f in found], np.int32) for part, found in labels.items()}


def _read_csv(path: Path) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header_line = file.readline()
        delimiter = max(",;\t", key=header_line.count)
        header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
        if not np.isnan([_number(name) for name in header]).any():
            raise InputError(f"{path}: line 1 must name the columns, but holds {header_line.strip()[:60]!r}")
        first = int(header[0] == "")  # a leading column without a name holds the names of the rows
        lowered = [name.lower() for name in header]
        label = next((lowered.index(name) for name in _LABELS if name in lowered), len(header) - 1)
        columns = [i for i in range(first, len(header)) if i != label]
        if not columns:
            raise InputError(f"{path}: needs a label column and at least one feature column, not {header}")
        rows, labels = [], []
        reader = csv.reader(file, delimiter=delimiter)
        for cells in reader:
            line = reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(f"{path}: line {line} has {len(cells)} cells, the header {len(header)}")
            rows.append(_csv_row(path, line, [(header[i], cells[i]) for i in columns]))
            labels.append(cells[label].strip())
            if not labels[-1]:
                raise InputError(f"{path}: line {line} has no label in column {header[label]!r}")
    if not rows:
        raise InputError(f"{path}: has no rows below its header")
    names, indices = _classes(path, {"train": labels})
    note = "the unnamed first column (row names) was dropped" if first else ""
    return Table({"train": (np.stack(rows), indices["train"])}, names, note)


def _csv_row(path: Path, line: int, cells: list[tuple[str, str]]) -> np.ndarray:
    row = np.array([_number(cell) for _, cell in cells])
    fine = np.abs(row) <= np.finfo(np.float32).max
    if fine.all():
        return row.astype(np.float32)
    column, cell = cells[int(np.argmin(fine))]
    raise InputError(f"{path}: column {column!r}, line {line}: {cell!r} is no finite number; features must be numbers")


def _number(text: str) -> float:
    """NaN where `text` is no number."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
