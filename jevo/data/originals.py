"""The published files of MNIST, Fashion-MNIST and CIFAR-10: finding, checking and reading them.

A set of originals is a dict: the published file name -> where that file is.
"""

import gzip
import hashlib
import pickle
import re
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jevo.errors import InputError

Files = Mapping[str, Path]
Images = tuple[np.ndarray, np.ndarray]
"""`x` uint8 `[n, height, width, channels]` and `y` int32 `[n]`."""

TRAIN = {"mnist": 60_000, "fashion_mnist": 60_000, "cifar10": 50_000}
"""Train images in each set."""

CIFAR10_FOLDER = "cifar-10-batches-py"
CIFAR10_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
CIFAR10_TEST = "test_batch"

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}

CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    "cifar10": {
        "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        # The members of the first archive, extracted: md5 is what is published for them.
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
}
"""The published digests, sha256 or (32 digits) md5: set -> file name -> hex digest."""


def find(name: str, data_dir: Path, part: tuple[int, int] | None = None) -> Files:
    """The original files of the set `name` in `data_dir` or its subfolder `name`, each checked.

    An incomplete CIFAR-10 will do if it holds the train images `part` (start, stop); then only the batches
    that these lie in are returned. Raises `InputError` when a file is missing,
    cannot be read or is not the published one.
    """
    if not data_dir.is_dir():
        raise InputError(f"{name}: the data folder {data_dir} is not there, or is not a folder")
    places = [place for place in (data_dir / name, data_dir) if place.is_dir()]
    files = _find_cifar10(places, part or (0, TRAIN[name])) if name == "cifar10" else _find_idx(name, places)
    if not files:
        raise InputError(
            f"{name}: none of its original files is in {data_dir}: looked for "
            f"{', '.join(_expected(name))}; without a data folder, jevo downloads them"
        )
    for file, path in files.items():
        _check(name, file, path)
    return files


def read(name: str, files: Files) -> dict[str, Images]:
    """The images of `files`, in their published order: `{"train": (x, y), "test": (x, y)}`."""
    return _read_cifar10(files) if name == "cifar10" else _read_idx(files)


def batches(files: Files) -> tuple[int, ...]:
    """Which train batches (from 0) an incomplete CIFAR-10 holds; empty for a complete set."""
    held = tuple(i for i, file in enumerate(CIFAR10_TRAIN) if file in files)
    return held if len(held) < len(CIFAR10_TRAIN) else ()


def cifar10_batch() -> int:
    """Images in each train batch of CIFAR-10."""
    return TRAIN["cifar10"] // len(CIFAR10_TRAIN)


def _expected(name: str) -> list[str]:
    if name != "cifar10":
        return list(CHECKSUMS[name])
    return [f"{CIFAR10_FOLDER}/", *(file for file in CHECKSUMS[name] if file.endswith(".gz"))]


def _find_idx(name: str, places: list[Path]) -> Files:
    for place in places:
        files = {file: place / file for file in CHECKSUMS[name] if (place / file).exists()}
        missing = [file for file in CHECKSUMS[name] if file not in files]
        if files and missing:
            raise InputError(f"{name}: {', '.join(missing)} missing in {place}; put the original beside the others")
        if files:
            return files
    return {}


def _find_cifar10(places: list[Path], part: tuple[int, int]) -> Files:
    first, last = part[0] // cifar10_batch(), (part[1] - 1) // cifar10_batch()
    needed = [*CIFAR10_TRAIN[first : last + 1], CIFAR10_TEST]
    incomplete = None
    for folder in [folder for place in places for folder in (place / CIFAR10_FOLDER, place)]:
        files = {file: folder / file for file in (*CIFAR10_TRAIN, CIFAR10_TEST) if (folder / file).exists()}
        if all(file in files for file in needed):
            return {file: files[file] for file in (needed if batches(files) else files)}
        if files:
            incomplete = incomplete or (folder, files)
    for place in places:
        for file in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"):
            if (place / file).exists():
                return {file: place / file}
    if incomplete:
        raise InputError(_missing_batches(*incomplete, needed))
    return {}


def _missing_batches(folder: Path, files: Files, needed: list[str]) -> str:
    missing = [file for file in needed if file not in files]
    line = f"cifar10: {', '.join(missing)} missing in {folder}; put the original there"
    # "1101" -> the longest run of "1": the largest part of the train set that can be used meanwhile.
    held = "".join("1" if file in files else "0" for file in CIFAR10_TRAIN)
    run = max(re.finditer("1+", held), key=lambda match: len(match.group()), default=None)
    if run and CIFAR10_TEST in files:
        start, stop = (i * cifar10_batch() for i in run.span())
        line += f", or use what is there as cifar10[{start or ''}:{stop}]"
    return line


def _check(name: str, file: str, path: Path) -> None:
    expected = CHECKSUMS[name][file]
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, _algorithm(expected)).hexdigest()
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be read: {error.strerror or error}") from error
    if found != expected:
        raise InputError(
            f"{name}: {path} is damaged, or is not the published {file}: its {_algorithm(expected)} is "
            f"{found[:12]}..., not {expected[:12]}...; fetch it again"
        )


def _algorithm(digest: str) -> str:
    return "md5" if len(digest) == 32 else "sha256"


def _read_idx(files: Files) -> dict[str, Images]:
    def array(file: str) -> np.ndarray:
        raw = gzip.decompress(files[file].read_bytes())
        dims = raw[3]  # two zero bytes, the type (8: uint8), the number of axes, then their sizes
        shape = np.frombuffer(raw, ">i4", count=dims, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)

    return {
        split: (
            array(f"{prefix}-images-idx3-ubyte.gz")[..., None],
            array(f"{prefix}-labels-idx1-ubyte.gz").astype(np.int32),
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _read_cifar10(files: Files) -> dict[str, Images]:
    parts = dict(_cifar10_parts(files))
    train = [parts[file] for file in CIFAR10_TRAIN if file in parts]
    return {
        "train": (np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])),
        "test": parts[CIFAR10_TEST],
    }


def _cifar10_parts(files: Files) -> Iterator[tuple[str, Images]]:
    for file, path in files.items():
        if not file.endswith(".tar.gz"):
            yield file, _from_pickle(file, path.read_bytes())
            continue
        with tarfile.open(path, "r|gz") as archive:  # members are read in memory, never extracted
            for member in archive:
                part = Path(member.name).name.removesuffix(".bin")
                if part in (*CIFAR10_TRAIN, CIFAR10_TEST) and (opened := archive.extractfile(member)):
                    raw = opened.read()
                    yield part, _from_binary(raw) if member.name.endswith(".bin") else _from_pickle(part, raw)


def _from_pickle(file: str, raw: bytes) -> Images:
    # A pickle can run code: these very bytes must be the published ones, wherever they came from.
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != CHECKSUMS["cifar10"][file]:
        raise InputError(f"cifar10: {file} is damaged, or is not the published one; fetch it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about a dtype pickled by Python 2
        batch = pickle.loads(raw, encoding="bytes")
    return _pixels(batch[b"data"]), np.asarray(batch[b"labels"], np.int32)


def _from_binary(raw: bytes) -> Images:
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return _pixels(rows[:, 1:]), rows[:, 0].astype(np.int32)


def _pixels(rows: np.ndarray) -> np.ndarray:
    """`[n, 3072]`, a colour plane after another -> `[n, 32, 32, 3]`."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
