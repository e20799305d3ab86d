"""Users' own data: `.npz`, `.csv` and `.parquet` files, checked, with every fault named by its place."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jevo.data import delimited, targets
from jevo.data.files import is_file
from jevo.data.labels import Labels, Source, classes, from_array, number
from jevo.data.values import channels_of
from jevo.errors import InputError, shortened, suggestion

SUFFIXES = (".npz", ".csv", ".parquet", ".pq")
_USUAL = ("label", "class", "target", "y")
"""What label columns are often called: never a reason to take one, but one to mention it."""
_PARTS = ("train", "validation", "test")
_LIKE_PART = re.compile(
    r"[xy][_ .-]?(train|trn|training|validation|validate|valid|val|dev|eval|evaluation|test|tst|testing|holdout)",
    re.IGNORECASE,
)
"""Names that somebody meant for a part, and that are none."""


class Table(NamedTuple):
    """What a file holds: `parts` maps train, and perhaps validation and test, to `(x, y)`.

    `x` is `[n, ...]` in the type of the file (float64 from a .csv or .parquet), `y` int32 `[n]`, an index into
    `classes`; of a regression it is float64 `[n, targets]`, and the targets have names. `taken` says, a line each, what
    was taken for what.
    """

    parts: Mapping[str, tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    note: str
    taken: tuple[str, ...]


def read_table(path: Path, label: str = "", header: bool = True, regression: bool = False) -> Table:
    """Reads a `.npz` (x_train, y_train; optional x_validation, y_validation, x_test, y_test), `.csv` or `.parquet`.

    Args:
      path: the file.
      label: the label column of a .csv or .parquet, by name or index (from 0, or -1 from the end); "" is the last.
        Of a regression it may be several, with commas between.
      header: whether line 1 of a .csv names the columns; else they are called 0, 1, 2, ...
      regression: whether labels are real numbers, not classes.

    Raises `InputError` when the file is missing or damaged, its parts disagree, a value is no finite
    number, or the labels are no classes.
    """
    if not is_file(path):
        raise InputError(f"{shortened(str(path), 300)}: there is no such file")
    suffix = path.suffix.lower()
    if suffix != ".csv" and not header:
        raise InputError(f"{path}: header is a setting for .csv files; a {suffix} names its columns itself")
    if suffix == ".npz" and label:
        raise InputError(f"{path}: label names a column of a .csv or .parquet; a .npz has its labels in y_train")
    try:
        if suffix == ".npz":
            return _read_npz(path, regression)
        if suffix == ".csv":
            return _read_csv(path, label, header, regression)
        return _read_parquet(path, label, regression)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {_line(error)}") from error
    except Exception as error:
        # PyArrow has a dozen types for a damaged file, and most of them when it is already open.
        if isinstance(error, InputError) or suffix not in (".parquet", ".pq"):
            raise
        raise InputError(f"{path}: is no .parquet file, or is damaged: {_line(error)}") from error


def _read_npz(path: Path, regression: bool) -> Table:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = set(stored.files)
            known = [f"{axis}_{part}" for part in _PARTS for axis in "xy"]
            arrays = {key: stored[key] for key in known if key in found}
    except Exception as error:  # a damaged file, objects (never unpickled), one bare array: each its own type
        raise InputError(f"{path}: is no .npz of plain arrays, or is damaged: {_line(error)}") from error
    return read_arrays(str(path), arrays, sorted(found), regression)


def read_arrays(path: str, arrays: Mapping[str, np.ndarray], found: Sequence[str], regression: bool = False) -> Table:
    """What arrays hold: x_train, y_train, and perhaps x_validation, y_validation, x_test, y_test.

    Args:
        path: where they come from.
        arrays: by name.
        found: all names that there are, to be told if one is missing.
        regression: whether labels are real numbers, not classes.

    Raises:
        InputError: if they disagree, a value is no finite number, or the labels are no classes.
    """
    others = [key for key in found if key not in {f"{axis}_{part}" for part in _PARTS for axis in "xy"}]
    if like := [key for key in others if _LIKE_PART.fullmatch(key)]:
        names = ", ".join(f"x_{part}" for part in _PARTS)
        raise InputError(
            f"{path}: {like[0]!r} is no name of a part; they are {names}, and with y_ for x_; rename or drop it"
        )
    parts, labels, numbers = {}, {}, {}
    for part in _PARTS:
        x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
        if x is None and y is None and part != "train":
            continue
        if x is None or y is None:
            missing = f"{'x' if x is None else 'y'}_{part}"
            raise InputError(f"{path}: {missing} is missing; the file holds {', '.join(sorted(found)) or 'nothing'}")
        parts[part] = _features(path, f"x_{part}", x)
        if not y.ndim or len(x) != len(y) or not len(x):
            count = len(y) if y.ndim else "no"
            raise InputError(f"{path}: x_{part} has {len(x)} examples and y_{part} has {count} labels")
        if regression:
            numbers[part] = targets.from_array(f"{path}: y_{part}", y)
        else:
            labels[part] = from_array(f"{path}: y_{part}", y)
        if x.shape[1:] != parts["train"].shape[1:]:
            raise InputError(
                f"{path}: an example of x_{part} has shape {x.shape[1:]}, one of x_train {parts['train'].shape[1:]}"
            )
    shape = "x".join(map(str, parts["train"].shape[1:]))
    features = f"features: {shape} of type {parts['train'].dtype}"
    if others:
        features += f"; not read: {', '.join(key[:40] for key in others[:10])}{', ...' if len(others) > 10 else ''}"
    if regression:
        count = numbers["train"].shape[1]
        if widths := [part for part, y in numbers.items() if y.shape[1] != count]:
            found = numbers[widths[0]].shape[1]
            raise InputError(f"{path}: y_{widths[0]} has {found} targets for each example, y_train has {count}")
        names = tuple(f"y{i}" for i in range(count)) if count > 1 else ("y",)
        taken = [f"targets: y_train; {targets.described(names, numbers['train'])}", features]
        return Table({part: (x, numbers[part]) for part, x in parts.items()}, (), names, "", tuple(taken))
    source = Source(path, "", lambda part, i: f"y_{part}[{i}]")
    names, indices, said = classes(source, labels)
    taken = [f"labels: y_train; {_classes(names, indices)}", features]
    if channels_of(parts["train"].shape[1:])[1]:
        taken.append(f"{shape} is channels, height, width, it seems; convolutions take the last axis for the channels, "
                     "so for them save [n, height, width, channels]")  # fmt: skip
    return Table({part: (x, indices[part]) for part, x in parts.items()}, names, (), "", (*taken, *said))


def _features(path: str, key: str, x: np.ndarray) -> np.ndarray:
    """`x`, finite, in the file's own type, or the nearest that everything downstream has."""
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise InputError(f"{path}: {key} must be [examples, ...], not shape {x.shape}")
    if x.dtype.kind not in "buif":
        raise InputError(f"{path}: {key} must hold numbers, not {x.dtype}")
    if x.dtype.kind == "f":
        x = x.astype({2: np.float32, 4: np.float32}.get(x.dtype.itemsize, np.float64), copy=False)
        if place := _unfit(x):
            raise InputError(
                f"{path}: {key}{list(place)} is {x[place]}, which is no finite float32; clean, rescale or drop it"
            )
    return x.astype(np.uint8 if x.dtype.kind == "b" else x.dtype.newbyteorder("="), copy=False)


def _unfit(x: np.ndarray) -> tuple[int, ...]:
    """Where the first value is that no finite float32 can stand for; () if there is none."""
    for start in range(0, len(x), 4096):
        fine = np.abs(x[start : start + 4096]) <= np.finfo(np.float32).max  # false for NaN
        if not fine.all():
            row, *place = (int(i) for i in np.argwhere(~fine)[0])
            return (start + row, *place)
    return ()


def _read_csv(path: Path, label: str, header: bool, regression: bool) -> Table:
    text = delimited.open_text(path, header)
    names, said = list(text.names), list(text.said)
    usable = list(range(len(names)))
    if header and names[-1] == "" and len(names) > 1:
        if not text.empty(len(names) - 1):
            raise InputError(f"{path}: column {len(names)}, the last, has no name; give it one")
        usable.pop()
        said.append("the empty last column (a delimiter at the end of each line) was dropped")
    elif not header and len(names) > 2 and text.empty(len(names) - 1):
        usable.pop()
        said.append("the empty last column (a delimiter at the end of each line) was dropped")
    wanted = _label_columns(path, label, names, usable, regression)
    target = wanted[0]
    if header and names[0] == "" and 0 not in wanted:
        usable.remove(0)
        said.append("the unnamed first column (row names) was dropped")
    columns = [i for i in usable if i not in wanted]
    if not columns:
        raise InputError(
            f"{path}: needs a label column and at least one feature column, but has one column, {names[target]!r}; "
            "columns are separated by , or ; or tabs or |"
        )
    if complaint := text.headerless(columns, target):
        raise InputError(f"{path}: {complaint}")
    _check_names(path, [names[i] for i in usable])
    blank = len(names) - 1 if len(names) - 1 not in usable else None
    if regression:
        both, _ = text.read([*columns, *wanted], None, blank)
        return _regression(both, names, columns, wanted, said)
    x, labels = text.read(columns, target, blank)
    source = Source(str(path), names[target], lambda _, i: f"line {text.line(i)}", _advice(names, columns, target))
    return _table(x, labels, source, names, columns, target, said)


def _read_parquet(path: Path, label: str, regression: bool) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        table = file.read()
    names, said = [name.strip() for name in table.column_names], []
    usable = [i for i, name in enumerate(names) if not name.startswith("__index_level_")]
    if len(usable) < len(names):
        said.append("the index of the table (row names) was dropped")
    if not usable or not table.num_rows:
        raise InputError(f"{path}: has no rows")
    wanted = _label_columns(path, label, names, usable, regression)
    target = wanted[0]
    _check_names(path, [names[i] for i in usable])
    columns = [i for i in usable if i not in wanted]
    if not columns:
        raise InputError(f"{path}: needs a label column and at least one feature column, not only {names[target]!r}")
    read = [*columns, *wanted] if regression else columns
    x = np.empty((table.num_rows, len(read)))
    for j, i in enumerate(read):
        column = table.column(i)
        plain, needs = column.type, f"{'targets' if i in wanted else 'features'} must be numbers"
        if not any(kind(plain) for kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean,
                                            pa.types.is_decimal)):  # fmt: skip
            raise InputError(f"{path}: column {names[i]!r} holds {plain}; {needs}")
        if column.null_count:
            row = column.is_null().to_numpy().argmax()
            raise InputError(f"{path}: column {names[i]!r}, row {row}: is empty; {needs}")
        x[:, j] = column.cast(pa.float64(), safe=False).to_numpy()
        if place := _unfit(x[:, j]):
            value = x[(*place, j)]
            raise InputError(f"{path}: column {names[i]!r}, row {place[0]}: {value} is no finite float32 number")
    if regression:
        return _regression(x, names, columns, wanted, said)
    column = table.column(target)
    name = f"{path}: column {names[target]!r}"
    source = Source(str(path), names[target], lambda _, i: f"row {i}", _advice(names, columns, target))
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if not any(
        test(kind)
        for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string,
                     pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_decimal)
    ):  # fmt: skip
        raise InputError(f"{name} holds {kind}; labels are whole numbers or strings, one class each")
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    values = encoded.dictionary.to_pylist()
    try:
        texts = ["" if v is None else v.decode() if isinstance(v, bytes) else str(v) for v in values]
    except UnicodeDecodeError:
        raise InputError(f"{name} holds bytes that are no UTF-8 text") from None
    return _table(x, Labels(texts, encoded.indices.to_numpy()), source, names, columns, target, said)


def _table(
    x: np.ndarray, labels: Labels, source: Source, names: Sequence[str], columns: Sequence[int], target: int,
    said: Sequence[str],
) -> Table:  # fmt: skip
    """What one table of one part gives."""
    found, indices, more = classes(source, {"train": labels})
    taken = [f"label: column {names[target]!r}; {_classes(found, indices)}", _features_line(names, columns)]
    taken += _asides(names, columns, x)
    return Table({"train": (x, indices["train"])}, found, (), "; ".join(said), (*taken, *more))


def _regression(
    both: np.ndarray, names: Sequence[str], columns: Sequence[int], wanted: Sequence[int], said: Sequence[str]
) -> Table:
    """What one table of one part gives whose labels are numbers; the columns of `both` are features, then targets."""
    x, y = both[:, : len(columns)], both[:, len(columns) :]
    called = tuple(names[i] for i in wanted)
    taken = [f"targets: {targets.described(called, y)}", _features_line(names, columns)]
    taken += _asides(names, columns, x)
    return Table({"train": (np.ascontiguousarray(x), y)}, (), called, "; ".join(said), tuple(taken))


def _classes(names: Sequence[str], indices: Mapping[str, np.ndarray]) -> str:
    """How many classes, and the first ten with their examples."""
    counts = np.bincount(np.concatenate(list(indices.values())), minlength=len(names))
    listed = ", ".join(f"{name[:40]} {n:,}" for name, n in list(zip(names, counts, strict=True))[:10])
    many = len(names) > 50 and not np.isnan([number(name) for name in names]).any()
    return f"{len(names)} classes: {listed}{', ...' if len(names) > 10 else ''}" + (
        " (so many numbers: is this a regression? Then set goal to regression)" if many else ""
    )


def _features_line(names: Sequence[str], columns: Sequence[int]) -> str:
    listed = ", ".join(names[i][:40] for i in columns[:10])
    return f"features: {len(columns)} columns: {listed}{', ...' if len(columns) > 10 else ''}"


def _asides(names: Sequence[str], columns: Sequence[int], x: np.ndarray) -> list[str]:
    """Says which features may be the labels, and which only count the rows."""
    features = [names[i] for i in columns]
    others = [name for name in features if name.lower() in _USUAL]
    said = [f"column {name!r} is a feature; if it holds the labels: label {name}" for name in others[:1]]
    return said + _row_numbers(features, x)


def _row_numbers(names: Sequence[str], x: np.ndarray) -> list[str]:
    """Says which features only count the rows."""
    if len(x) < 3:
        return []
    steps = x[1] - x[0]
    counts = (steps != 0) & (steps % 1 == 0) & (x[0] % 1 == 0)
    steady = [bool(counts[j]) and bool((np.diff(x[:, j]) == steps[j]).all()) for j in range(x.shape[1])]
    found = [name for j, name in enumerate(names) if steady[j] or _shuffled(x[:, j])]
    return [
        f"column {name!r} looks like a row number, and is a feature: delete it from the file if it is one"
        for name in found[:5]
    ]


def _shuffled(column: np.ndarray) -> bool:
    """Whether it holds n whole numbers in a row, each once, in any order."""
    n = len(column)
    low = column.min()
    if n < 20 or low % 1 or column.max() - low != n - 1 or (column % 1).any():
        return False
    return len(np.unique(column)) == n


def _label_column(path: Path, label: str, names: Sequence[str], usable: Sequence[int]) -> int:
    """The index of the column that holds the labels."""
    if not label:
        return usable[-1]
    if label in names:
        return names.index(label)
    try:
        index = int(label)
    except ValueError:
        raise InputError(f"{path}: has no column {label!r} for label; {suggestion(label, list(names[:50]))}") from None
    if not -len(usable) <= index < len(names):
        raise InputError(f"{path}: label {index} is no column: there are {len(names)}, 0 to {len(names) - 1}")
    return usable[index] if index < 0 else index


def _label_columns(
    path: Path, label: str, names: Sequence[str], usable: Sequence[int], regression: bool
) -> tuple[int, ...]:
    """The indices of the columns that hold the labels: one, or, of a regression, perhaps several."""
    if not regression or "," not in label or label in names:
        return (_label_column(path, label, names, usable),)
    found = tuple(_label_column(path, one.strip(), names, usable) for one in label.split(",") if one.strip())
    if len(set(found)) < len(found) or not found:
        raise InputError(f"{path}: label {label!r} names a column twice, or none")
    return found


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen = set()
    for place, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"{path}: column {place} has no name; give it one")
        if name in seen:
            raise InputError(f"{path}: two columns are called {name!r}; rename one")
        seen.add(name)


def _advice(names: Sequence[str], columns: Sequence[int], target: int) -> str:
    likely = [names[i] for i in columns if names[i].lower() in _USUAL]
    if likely:
        return f"name the column {likely[0]!r} with label {likely[0]}, if that holds the classes"
    return f"name another label column with label (there are {', '.join(names[i][:30] for i in columns[:6])})"


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
