"""Use the champion of a finished run.

python -m jevo.predict RUN IMAGE...
"""

import math
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jevo.data import targets
from jevo.data.files import atomic_file
from jevo.data.images import read_examples, write_picture
from jevo.data.values import Values
from jevo.errors import InputError, on_one_line, require
from jevo.experiments import champion
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors


@dataclass(frozen=True)
class Request:
    """Say what the champion of a finished run sees in images, a line each: file, class, probability; or, of a
    regression, file and estimates.

    One that reconstructs (of the autoencoder experiment) also writes what it saw, and beside it the reconstruction,
    next to each image as NAME-reconstruction.png (.npy where examples are not images); what is on a front only does
    that, as the machine that tells classes reads the champion's features."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files of any size (PNG, JPEG), or .npy files of one example or many."""
    invert: bool = False
    """Exchange black and white: for dark digits on light paper, where the data are light on dark."""
    range: tuple[float, float] | None = None
    """What black and white are in the data that the network was trained on, where these do not tell."""
    front: int | None = None
    """Of a run of more than one objective, which member of its front to ask instead: its number in the table of
    report.md, from 1."""
    network: str | None = None
    """Of a run with a network of your own, that network: FILE.py:NAME or package.module:NAME. What a run's folder names
    is never imported."""
    out: Path | None = None
    """Folder for reconstructions. Unset: that of each image."""

    def __post_init__(self) -> None:
        black, white = self.range or (0.0, 1.0)
        fits = math.isfinite(black) and math.isfinite(white) and black != white
        require(fits, "range", self.range, "two different numbers: what black is, and what white is")


def predict(request: Request) -> None:
    """Print a line for each example in the request's images, and on standard error what one should know of it."""
    answer, result = champion(request.run, request.front, request.network)
    shape, classes = tuple(result["data"]["shape"]), result["data"]["classes"]
    values = Values.from_json(result["data"]["values"], shape)
    if request.range:
        values = values._replace(black=request.range[0], white=request.range[1])
    unsaid = values.white is not None and (values.dtype, *values.ends) != ("uint8", 0, 255)
    names = reconstruction_names(request.images, request.out, "png" if values.channels else "npy")
    for path in request.images:
        x, notes = read_examples(path, shape, values, request.invert)
        if unsaid and path.suffix.lower() != ".npy":
            notes.insert(
                0, f"in pictures, black is {values.black:g} and white {values.white:g} of {values.described()}"
            )
            unsaid = False
        for note in notes:
            print(f"note: {on_one_line(note)}", file=sys.stderr)
        found = answer(x)
        written = ""
        if found.reconstructions is not None:
            write_reconstructions(names[path], x, found.reconstructions, values)
            written = f"  {names[path]}"
        for i in range(len(x)):
            name = f"{path}[{i}]" if len(x) > 1 else str(path)
            told = "" if found.classes is None else f"  {classes[int(found.classes[i])]}"
            if found.values is not None:
                of = result["data"]["targets"]
                estimates = zip(of["names"], found.values[i], of["scale"], strict=True)
                told = "".join(
                    f"  {target} {targets.written(float(value), scale)}" for target, value, scale in estimates
                )
            sure = "" if found.probabilities is None else f"  {found.probabilities[i].max():.3f}"
            print(on_one_line(f"{name}{told}{sure}{written}"))


def reconstruction_names(paths: Sequence[Path], out: Path | None, suffix: str) -> dict[Path, Path]:
    """Where what was made of each file is written: to a file of its own, and over none of them.

    Args:
        paths: where examples come from.
        out: the folder to write to, or None for that of each.
        suffix: of what is written.

    Raises:
        InputError: if what is written would take the place of one of them, whatever it is called.
    """
    ways: list[Callable[[int, Path], str]] = [
        lambda i, path: path.stem,
        lambda i, path: path.name,
        lambda i, path: "-".join([path.absolute().parent.name, path.name]),
        lambda i, path: "-".join([str(i + 1), path.name]),
    ]
    inputs = [_same(path) for path in paths]
    for way in ways:
        names = {path: (out or path.parent) / f"{way(i, path)}-reconstruction.{suffix}" for i, path in enumerate(paths)}
        if len({_same(name) for name in names.values()} - set(inputs)) == len(names):
            return names
    raise InputError("a reconstruction would take the place of an image; give --out a folder of its own")


def _same(path: Path) -> str:
    """What all paths to one file share, also where a.png and A.png, or two ways to write an accent, are one."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def write_reconstructions(target: Path, x: np.ndarray, found: np.ndarray, values: Values) -> None:
    """Write what was made of the examples of one file: as a picture with a row for each, or as .npy.

    Args:
        target: what to write.
        x: the examples.
        found: their reconstructions `[n, ...]`, on the same scale.
        values: what their numbers are.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        shown = [values.picture(each) for each in (x, found)]
        beside = np.concatenate(shown, axis=2)
        write_picture(target, beside.reshape(-1, *beside.shape[2:]))
    else:
        with atomic_file(target) as file:
            np.save(file, found)


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.images:
            raise InputError("predict takes a run folder and at least one image: python -m jevo.predict RUN IMAGE...")
        predict(request)


if __name__ == "__main__":
    main()
