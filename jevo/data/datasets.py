"""Data sets by name: digits, MNIST, Fashion-MNIST, CIFAR-10, or a user's own file, as three splits."""

import difflib
import functools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jevo.data import cache, image_sets, originals, tables
from jevo.data.files import expanded
from jevo.data.targets import Targets, targets_of
from jevo.data.values import Values, moments, values_of
from jevo.errors import InputError, shortened

SPLITS = ("train", "validation", "test")
NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")

_TEST = 0.2
"""The share of a set without a test part that becomes one."""
_VALIDATION = 0.1
"""The share of the train examples that validates; at most `_MOST_VALIDATION` of the image sets."""
_MOST_VALIDATION = 5_000
_SEED = 0


class Split(NamedTuple):
    """Examples and their labels."""

    x: np.ndarray
    """`[n, ...]` uint8 or float32; images are `[n, height, width, channels]`."""
    y: np.ndarray
    """int32 `[n]`, an index into the classes; of a regression float64 `[n, targets]`, in the numbers of the source."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits that share no example."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    values: Values
    """What the numbers of its examples are in its source, and how others are brought to them."""
    note: str = ""
    """What a reader of results must know: that the set is partial, how it was split, what was dropped."""
    taken: tuple[str, ...] = ()
    """What was taken for what in a user's own file, a line each: the label column, classes, features."""
    targets: Targets | None = None
    """What `y` holds if it is a regression; then there are no classes."""

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all that a run sees of it: the examples, their split and order, and the names of the classes."""
        splits = {part: getattr(self, part) for part in SPLITS}
        arrays = {f"{axis}_{part}": getattr(split, axis) for part, split in splits.items() for axis in "xy"}
        rest: list[Any] = [self.classes, self.values.to_json()]
        rest += [] if self.targets is None else [self.targets.to_json()]
        arrays["rest"] = np.frombuffer(json.dumps(rest).encode(), np.uint8)
        return cache.digest(arrays).hex()


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    validation: int | float | None = None,
    label: str = "",
    header: bool = True,
    regression: bool = False,
) -> Dataset:
    """Loads the data set `name`.

    Args:
      name: `digits`, `mnist`, `fashion_mnist` or `cifar10`; one of the last three with a part of its train
        images, as in `cifar10[:20000]`; or a path that ends in `.npz`, `.csv` or `.parquet` (see
        `tables.read_table`).
      data_dir: a folder of original files, only ever read. Default: the environment variable
        `JEVO_DATA_DIR`; without it, the image sets are downloaded. Other sets do not look at it.
      validation: how many train examples validate, or which share of them. They are the last ones of an
        image set, so that the others keep their published positions; of the other sets, a stratified
        share drawn with a fixed seed. Default: a tenth, and at most 5,000 of an image set. A file that
        has a validation part of its own keeps it.
      label: the label column of a `.csv` or `.parquet`, by name or number; "" for the last. Of a regression it may
        be several, with commas between.
      header: whether the first line of a `.csv` names the columns.
      regression: whether the labels are real numbers, to be estimated, and not classes.

    Raises:
      InputError: for anything that cannot be used: an unknown name, a part out of range, files that are
        missing, damaged or incomplete, no network.
    """
    name = os.fspath(name)
    if Path(name).suffix.lower() in tables.SUFFIXES:
        return _of_table(name, tables.read_table(expanded(name), label, header, regression), validation)
    if regression:
        raise InputError(f"data {name!r} has classes, and no numbers for a regression; give a file of your own")
    if label or not header:
        raise InputError(
            f"data {name!r}: label and header are for .csv and .parquet files, and this set has labels of its own"
        )
    if name == "digits":
        return _digits(validation)
    parsed = re.fullmatch(r"(\w+)(?:\[(\d*):(\d*)\])?", name)
    if not parsed or parsed[1] not in originals.CLASSES:
        raise InputError(_unknown(name))
    given = data_dir or os.environ.get("JEVO_DATA_DIR") or None
    bounds = int(parsed[2] or 0), int(parsed[3]) if parsed[3] else None
    return _images(name, parsed[1], bounds, expanded(given) if given else None, validation)


def from_arrays(
    x: Any,
    y: Any,
    *,
    validation: tuple[Any, Any] | int | float | None = None,
    test: tuple[Any, Any] | None = None,
    name: str = "arrays",
    regression: bool = False,
) -> Dataset:
    """A data set of arrays: NumPy's, JAX's, or whatever becomes one, such as lists.

    Args:
      x: train examples `[n, ...]`; images are `[n, height, width, channels]`.
      y: their labels `[n]`: whole numbers, or texts; of a regression numbers `[n]` or `[n, targets]`.
      validation: the examples and labels that validate; or how many of the train examples, or which share of them.
        None: a tenth.
      test: the examples and labels of the test set; None: a fifth of the train examples, drawn with a fixed seed.
      name: of the set, in results.
      regression: whether the labels are real numbers, to be estimated, and not classes.

    Raises:
      InputError: for anything that cannot be used, as `load` does.

    >>> import numpy as np
    >>> found = from_arrays(np.arange(60.0).reshape(30, 2), ["yes", "no", "no"] * 10)
    >>> found.classes, len(found.train.y), len(found.test.y)
    (('no', 'yes'), 22, 6)
    """
    parts = {"train": (x, y)} | ({} if test is None else {"test": test})
    share = None
    if isinstance(validation, tuple):
        parts["validation"] = validation
    else:
        share = validation
    arrays = {}
    for part, pair in parts.items():
        if len(pair) != 2:
            raise InputError(f"{name}: {part} is {len(pair)} things, but takes two: examples, and their labels")
        for axis, values in zip("xy", pair, strict=True):
            try:
                arrays[f"{axis}_{part}"] = np.asarray(values)
            except ValueError as error:  # Rows of different lengths.
                raise InputError(f"{name}: {axis}_{part} is no array: {shortened(error, 200)}") from None
    return _of_table(name, tables.read_arrays(name, arrays, sorted(arrays), regression), share)


def from_source(
    train: Iterable[Any],
    *,
    validation: Iterable[Any] | int | float | None = None,
    test: Iterable[Any] | None = None,
    x: str | int = "image",
    y: str | int = "label",
    name: str = "source",
    regression: bool = False,
) -> Dataset:
    """A data set of examples one by one: of TensorFlow Datasets (`tfds.data_source`, `tfds.as_numpy`), of Grain, or
    anything else that can be gone through and is not without end.

    Args:
      train: the train examples: mappings, or tuples.
      validation: those that validate; or as `from_arrays` takes it.
      test: those of the test set; or as `from_arrays` takes it.
      x: what the example is called in a mapping, or its place in a tuple.
      y: the same of its label.
      name: of the set, in results.
      regression: as `from_arrays` takes it.

    Raises:
      InputError: for anything that cannot be used, as `load` does.

    >>> found = from_source([([i, 1.0], i % 2) for i in range(40)], x=0, y=1)
    >>> found.train.x.shape
    (29, 2)
    """

    def gathered(part: str, examples: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
        xs, ys = [], []
        for i, example in enumerate(examples):
            try:
                xs.append(np.asarray(example[x]))
                ys.append(np.asarray(example[y]))
            except (LookupError, TypeError) as error:
                there = list(example) if isinstance(example, Mapping) else type(example).__name__
                raise InputError(
                    f"{name}: {part} example {i} has no {x!r} and {y!r}, but {shortened(there, 200)} "
                    f"({type(error).__name__}); say what they are called by x and y"
                ) from None
        shapes = sorted({array.shape for array in xs})
        if len(shapes) > 1:
            raise InputError(f"{name}: {part} examples have several shapes ({shapes[0]}, {shapes[1]}); make them one")
        return np.array(xs), np.array(ys)

    given = validation if isinstance(validation, int | float | None) else gathered("validation", validation)
    tested = None if test is None else gathered("test", test)
    train_pair = gathered("train", train)
    return from_arrays(*train_pair, validation=given, test=tested, name=name, regression=regression)


def against_rest(dataset: Dataset, name: str) -> Dataset:
    """The same examples with two classes: `rest`, and the class `name`.

    Raises:
      InputError: if the data set has no such class.
    """
    if name not in dataset.classes:
        raise InputError(f"{dataset.name} has no class {name!r}; its classes are {', '.join(dataset.classes)}")
    index = dataset.classes.index(name)
    splits = {part: getattr(dataset, part) for part in SPLITS}
    binary = {part: Split(split.x, (split.y == index).astype(np.int32)) for part, split in splits.items()}
    note = "; ".join(filter(None, [dataset.note, f"class {name} against the rest"]))
    return replace(dataset, **binary, classes=("rest", name), note=note)


def _unknown(name: str) -> str:
    name = shortened(name, 200)
    stem = name.partition("[")[0]
    if stem == "digits":
        return f"data {name!r}: digits has no published order, so no part of it can be named; use digits"
    if stem in NAMES:
        return f"data {name!r}: a part of the train images is written {stem}[:1000] or {stem}[1000:2000]"
    near = difflib.get_close_matches(stem.lower(), NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return (
        f"data {name!r} is unknown: it takes {', '.join(NAMES)}, or a path ending in {', '.join(tables.SUFFIXES)}{hint}"
    )


def _images(
    name: str,
    base: str,
    bounds: tuple[int, int | None],
    data_dir: Path | None,
    validation: int | float | None,
) -> Dataset:
    """The image set `base`, with its train images `bounds` only. `name` is how the user wrote it."""
    total = originals.TRAIN[base]
    start, stop = bounds[0], total if bounds[1] is None else bounds[1]
    if not start < stop <= total:
        raise InputError(f"data {name!r}: no such part; {base} has {total:,} train images, 0 to {total - 1:,}")
    files = originals.find(base, data_dir, (start, stop)) if data_dir else None
    arrays = image_sets.arrays(base, files)
    x, y = arrays["x_train"], arrays["y_train"]
    held = originals.batches(files) if files else ()
    before = held[0] * originals.cifar10_batch() if held else 0  # published images before the first one here
    x, y = x[start - before : stop - before], y[start - before : stop - before]
    note = ""
    if len(x) < total:
        of = f", train batches {', '.join(str(i + 1) for i in held)}" if held else ""
        note = f"partial: {len(x):,} of {total:,} train images ({start:,} to {stop - 1:,}{of})"
    n = _count(name, validation, len(x), default=max(1, min(_MOST_VALIDATION, len(x) // 10)))
    return Dataset(
        name,
        train=Split(x[:-n], y[:-n]),
        validation=Split(x[-n:], y[-n:]),
        test=Split(arrays["x_test"], arrays["y_test"]),
        classes=originals.CLASSES[base],
        values=values_of(x[:-n], 0.0, 255.0),
        note=note,
    )


def _digits(validation: int | float | None) -> Dataset:
    # scikit-learn takes a second to import, of the three until a first generation; its file takes a tenth to read.
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if file and file.exists():
        rows = np.loadtxt(file, delimiter=",")
    else:
        from sklearn.datasets import load_digits

        pixels, digit = load_digits(return_X_y=True)
        rows = np.column_stack((pixels, digit))
    x, y = rows[:, :-1].reshape(-1, 8, 8, 1).astype(np.uint8), rows[:, -1].astype(np.int32)
    return _split("digits", {"train": (x, y)}, tuple("0123456789"), validation, "", white=16.0)


def _of_table(name: str, table: tables.Table, validation: int | float | None) -> Dataset:
    """The data set of a user's own table."""
    found = _split(name, table.parts, table.classes, validation, table.note)
    targets = targets_of(name, table.targets, found.train.y) if table.targets else None
    return replace(found, taken=table.taken, targets=targets)


def _split(
    name: str,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    classes: tuple[str, ...],
    validation: int | float | None,
    note: str,
    white: float | None = None,
) -> Dataset:
    """A data set of `parts`, in which a missing test or validation part is split off the train part.

    White is what it is in pictures, with black 0, where the source says so.
    """
    splits = {part: Split(*arrays) for part, arrays in parts.items()}
    notes = [note] if note else []
    for part, asked, share in (("test", None, _TEST), ("validation", validation, _VALIDATION)):
        if part in splits:
            if asked is not None:
                notes.append(f"its own {part} part was used, not {asked}")
            continue
        x, y = splits["train"]
        n = _count(name, asked, len(y), default=max(1, round(share * len(y))))
        rest, drawn = stratified(y if classes else np.zeros(len(y), int), n, _SEED, name)
        splits["train"], splits[part] = Split(x[rest], y[rest]), Split(x[drawn], y[drawn])
        notes.append(f"{part}: {n:,} examples drawn, {'stratified, ' if classes else ''}seed {_SEED}")
    train = splits["train"].x
    values = values_of(train, None if white is None else 0.0, white)
    held = {}
    for part, (x, y) in splits.items():
        if odd := values.odd(x):
            said = f"{part} {odd} ({values.low:g} to {values.high:g})"
            # One that was drawn has the file's own scale, and an outlier.
            if values.channels and part in parts:
                raise InputError(f"{name}: {said}; bring all parts to one scale")
            notes.append(said)
        try:
            held[part] = Split(values.stored(x), y)
        except InputError as error:
            raise InputError(f"{name}: {part} {error}; clean or drop it") from None
    _, deviation = moments(held["train"].x)
    if deviation.ndim == 1 and (constant := int((deviation == 0).sum())):
        notes.append(f"{constant:,} of {deviation.size:,} features are constant in the train examples")
    return Dataset(name, held["train"], held["validation"], held["test"], classes, values, "; ".join(notes))


def stratified(y: np.ndarray, n: int, seed: int, name: str = "data") -> tuple[np.ndarray, np.ndarray]:
    """Draws `n` of the examples with labels `y` `[m]`, each class by its share.

    Returns shuffled indices `[m - n]` and `[n]`; every class keeps an example among the first. Raises
    `InputError` when there are too few for that.
    """
    counts = np.bincount(y)
    exact = n * counts / len(y)
    quota = np.minimum(exact.astype(int), np.maximum(counts - 1, 0))
    while quota.sum() < n:  # the largest remainder takes the next one
        open_ = quota < counts - 1
        if not open_.any():
            raise InputError(
                f"{name}: {n} of {len(y)} examples cannot be split off: each of the "
                f"{(counts > 0).sum()} classes must keep one for training"
            )
        quota[np.argmax(np.where(open_, exact - quota, -np.inf))] += 1
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y), int)  # the how-many-eth of its class an example is, in that order
    by_class = order[np.argsort(y[order], kind="stable")]
    rank[by_class] = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = rank < quota[y]
    return order[~drawn[order]], order[drawn[order]]


def _count(name: str, asked: int | float | None, total: int, default: int) -> int:
    """How many of `total` train examples are `asked` for: a number of them, or a share below 1."""
    if asked is None:
        n = default
    elif isinstance(asked, float) and 0 < asked < 1:
        n = round(asked * total)
    elif isinstance(asked, int | float) and not isinstance(asked, bool) and asked >= 1 and asked % 1 == 0:
        n = int(asked)
    else:
        raise InputError(f"validation: {asked!r} must be a whole number from 1, or a share between 0 and 1")
    if not 0 < n < total:
        raise InputError(
            f"validation: {n:,} of the {total:,} train examples of {name} leaves nothing to use or train on"
        )
    return n
