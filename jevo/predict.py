"""Use the champion of a finished run.

python -m jevo.predict RUN IMAGE...
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jevo.data.files import atomic_file
from jevo.data.images import read_images, write_picture
from jevo.errors import InputError
from jevo.experiments import champion
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors


@dataclass(frozen=True)
class Request:
    """Say what the champion of a finished run sees in images, a line each: file, class, probability.

    One that reconstructs (of the autoencoder experiment) also writes what it saw, and beside it the reconstruction,
    next to each image as NAME-reconstruction.png (.npy where examples are not images)."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files of any size (PNG, JPEG, ...), or .npy files of one example or many."""
    invert: bool = False
    """Exchange black and white: for dark digits on light paper, where the data are light on dark."""
    out: Path | None = None
    """Folder for reconstructions. Unset: that of each image."""


def predict(request: Request) -> None:
    """Print a line for each example in the request's images."""
    answer, result = champion(request.run)
    shape, classes, white = tuple(result["data"]["shape"]), result["data"]["classes"], result["data"]["white"]
    for path in request.images:
        x = read_images([path], shape, white, request.invert)
        found = answer(x)
        written = ""
        if found.reconstructions is not None:
            written = f"  {write_reconstructions(path, request.out, x, found.reconstructions, white)}"
        for i, index in enumerate(found.classes):
            name = f"{path}[{i}]" if len(x) > 1 else str(path)
            sure = "" if found.probabilities is None else f"  {found.probabilities[i].max():.3f}"
            print(f"{name}  {classes[int(index)]}{sure}{written}")


def write_reconstructions(path: Path, out: Path | None, x: np.ndarray, found: np.ndarray, white: float) -> Path:
    """Write what was made of the examples of one file: `NAME-reconstruction.png` with a row for each, or .npy.

    Args:
        path: where the examples come from.
        out: the folder to write to, or None for that of `path`.
        x: the examples.
        found: their reconstructions `[n, ...]`, on the same scale.
        white: what white is.
    """
    folder = path.parent if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    if x.ndim == 4:
        target = folder / f"{path.stem}-reconstruction.png"
        beside = np.concatenate([x.astype(np.float32), found], axis=2) / white
        write_picture(target, beside.reshape(-1, *beside.shape[2:]))
    else:
        target = folder / f"{path.stem}-reconstruction.npy"
        with atomic_file(target) as file:
            np.save(file, found)
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.images:
            raise InputError("predict takes a run folder and at least one image: python -m jevo.predict RUN IMAGE...")
        predict(request)


if __name__ == "__main__":
    main()
