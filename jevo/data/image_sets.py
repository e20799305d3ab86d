"""The image sets that are loaded by name: from published files that are checked, kept as arrays in the cache.

TensorFlow Datasets downloads them, by its addresses and checksums. Its prepared form is not used: it is read through
TensorFlow, or through a format that not every platform has a reader for.
"""

import functools
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from jevo.data import cache, originals
from jevo.errors import InputError

_log = logging.getLogger("jevo")


def arrays(name: str, files: originals.Files | None = None) -> dict[str, np.ndarray]:
    """The set `name` as `x_train, y_train, x_test, y_test`: `x` uint8 `[n, h, w, c]`, `y` int32 `[n]`.

    From the cache; failing that, from the checked original `files`, or, without them, from a download. Train examples
    keep their published order. An incomplete CIFAR-10 has a cache of its own.

    Raises:
        InputError: when there is no network, or the cache folder cannot be written.
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
                images = originals.read(name, files or _downloaded(name, folder / "downloads"))
                found = {
                    f"{axis}_{split}": part
                    for split, pair in images.items()
                    for axis, part in zip("xy", pair, strict=True)
                }
                cache.write(path, found)
    except OSError as error:
        raise InputError(
            f"{name}: the cache folder {folder} cannot be used: {error.strerror or error}; JEVO_CACHE names another one"
        ) from error
    return found


def _downloaded(name: str, folder: Path) -> originals.Files:
    """The published files of a set, each the one that TFDS knows; those that are there are not fetched again."""
    try:
        import requests
        import tensorflow_datasets as tfds

        infos = checksums(name)
    except ImportError as error:
        raise InputError(
            f"{name}: it is downloaded by tensorflow-datasets, which cannot be imported here ({error}); install that, "
            "or with data_dir (or JEVO_DATA_DIR) have the original files read from a folder"
        ) from None
    with _quiet():
        manager = tfds.download.DownloadManager(download_dir=folder, url_infos=infos, dataset_name=name)
        try:
            paths: Any = manager.download({info.filename: url for url, info in infos.items()})
        except Exception as error:  # refused, cut off, a wrong checksum: TFDS has a dozen types for it
            first_line = next(iter(str(error).splitlines()), "")
            offline = isinstance(error, requests.ConnectionError)
            reason = "no connection" if offline else f"{type(error).__name__}: {first_line[:200]}"
            raise InputError(
                f"{name}: it could not be downloaded ({reason}); with data_dir (or "
                "JEVO_DATA_DIR), jevo takes the original files from a folder"
            ) from error
    return {file: Path(path) for file, path in paths.items()}


@functools.cache
def checksums(name: str) -> dict[str, Any]:
    """What TFDS knows of a set's files, by address: name, size and checksum.

    Importing TFDS is slow, and most runs need nothing of it.
    """
    from tensorflow_datasets.core.download import downloader
    from tensorflow_datasets.image_classification import cifar, mnist

    downloader.MAX_RETRIES = 3  # its ten take more than three minutes to find out that there is no network
    builders: Any = (mnist.MNIST, mnist.FashionMNIST, cifar.Cifar10)
    return {each.name: each for each in builders}[name].url_infos


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
