"""The image sets through TensorFlow Datasets, without TensorFlow.

The stock builders call TensorFlow to unpack, decode and encode. These subclasses keep their name, version,
features and checksums, but read the published files with NumPy and hand images over as PNG bytes, to be
stored as array_record, which TFDS reads without TensorFlow. TFDS's own share is the download, its checksums
and the prepared form. Reading that back takes seconds, so the arrays are kept as an `.npz` beside it.
"""

import functools
import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jevo.data import cache, originals
from jevo.errors import InputError

_log = logging.getLogger("jevo")
_CHUNK = 4096
"""Records read at once: a read per record takes three times as long."""


def arrays(name: str, files: originals.Files | None = None) -> dict[str, np.ndarray]:
    """The set `name` as `x_train, y_train, x_test, y_test`: `x` uint8 `[n, h, w, c]`, `y` int32 `[n]`.

    From the cache; failing that, prepared from the checked original `files`, or, without them, downloaded.
    Train examples keep their published order. An incomplete CIFAR-10 has a cache of its own.
    Raises `InputError` when there is no network or the cache folder cannot be written.
    """
    held = originals.batches(files) if files else ()
    folder = cache.folder() / "-".join([name, *(["batches"] if held else []), *(str(i + 1) for i in held)])
    path = folder / "arrays.npz"
    if (found := cache.read(path)) is not None:
        return found
    try:
        with cache.lock(folder / "lock"):  # of two processes, the second finds what the first prepared
            if (found := cache.read(path)) is None:
                _log.info("%s: preparing it in %s, once", name, folder)
                found = _through_tfds(name, files, folder)
                cache.write(path, found)
    except OSError as error:
        raise InputError(
            f"{name}: the cache folder {folder} cannot be used: {error.strerror or error}; JEVO_CACHE names another one"
        ) from error
    return found


def _through_tfds(name: str, files: originals.Files | None, folder: Path) -> dict[str, np.ndarray]:
    with _quiet():
        make = functools.partial(_builders()[name], data_dir=folder / "prepared")
        with suppress(Exception):  # prepared before, and only the arrays were lost
            return _read(make())
        shutil.rmtree(folder / "prepared", ignore_errors=True)  # damaged, or left behind by a killed process
        builder = make()
        builder.files = files
        builder.download_and_prepare(download_dir=folder / "downloads", file_format="array_record")
        return _read(builder)


def _read(builder: Any) -> dict[str, np.ndarray]:
    result = {}
    for split in ("train", "test"):
        source = builder.as_data_source(split)
        chunks = (range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK))
        records = [record for chunk in chunks for record in source.__getitems__(list(chunk))]
        result[f"x_{split}"] = np.stack([record["image"] for record in records])
        result[f"y_{split}"] = np.array([record["label"] for record in records], np.int32)
    return result


@functools.cache
def _builders() -> dict[str, Any]:
    """The builders by name. They are made on demand: importing TFDS is slow, and most runs need none."""
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import downloader
    from tensorflow_datasets.image_classification import cifar, mnist

    downloader.MAX_RETRIES = 3  # its ten take more than three minutes to find out that there is no network

    class Info(tfds.core.DatasetInfo):
        def initialize_from_bucket(self) -> None:
            """Asks no server for statistics."""

    class WithoutTensorFlow:
        name: str
        url_infos: dict[str, Any]
        files: originals.Files | None = None

        def _info(self) -> Info:
            stock: Any = super()._info()  # pyright: ignore[reportAttributeAccessIssue]
            if self.name == "cifar10":  # the stock builder takes them from a file of the archive
                stock.features["label"].names = originals.CLASSES[self.name]
            return Info(
                builder=self,
                description=stock.description,
                features=stock.features,
                supervised_keys=stock.supervised_keys,
                homepage=stock.homepage,
                citation=stock.citation,
                disable_shuffling=True,  # the published order: parts of a train set are named by position
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            files = self.files or self._download(dl_manager)
            return {split: self._examples(split, *part) for split, part in originals.read(self.name, files).items()}

        def _download(self, dl_manager: Any) -> originals.Files:
            try:
                paths = dl_manager.download({info.filename: url for url, info in self.url_infos.items()})
            except Exception as error:  # refused, cut off, a wrong checksum: TFDS has a dozen types for it
                first_line = next(iter(str(error).splitlines()), "")
                offline = isinstance(error, requests.ConnectionError)
                reason = "no connection" if offline else f"{type(error).__name__}: {first_line[:200]}"
                raise InputError(
                    f"{self.name}: it could not be downloaded ({reason}); with data_dir (or "
                    "JEVO_DATA_DIR), jevo takes the original files from a folder"
                ) from error
            return {file: Path(path) for file, path in paths.items()}

        def _examples(self, split: str, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
            named = "id" in self.info.features  # pyright: ignore[reportAttributeAccessIssue]
            for i, (image, label) in enumerate(zip(x, y, strict=True)):
                example = {"image": _png(image), "label": int(label)}
                yield i, example | ({"id": f"{split}_{i:05d}"} if named else {})

        def _generate_examples(self) -> None:
            """Unused: `_split_generators` returns the examples themselves."""

    def subclass(stock: Any) -> Any:
        body = {"name": stock.name, "url_infos": stock.url_infos}
        return type(stock)(stock.__name__, (WithoutTensorFlow, stock), body, skip_registration=True)

    return {stock.name: subclass(stock) for stock in (mnist.MNIST, mnist.FashionMNIST, cifar.Cifar10)}


def _png(image: np.ndarray) -> bytes:
    """uint8 `[height, width, 1 or 3]` as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "PNG", compress_level=1)
    return file.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what TFDS prints, its progress bars and its log lines (it misses OpenCV, and says so)."""
    import absl.logging
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    loggers = [absl.logging.get_absl_logger(), logging.getLogger("urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
