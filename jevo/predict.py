"""Use the champion of a finished run.

python -m jevo.predict RUN IMAGE...
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jevo.data.images import read_images
from jevo.runs.command import plain_errors
from jevo.runs.config import parse
from jevo.runs.record import read_result
from jevo.types import InputError


@dataclass(frozen=True)
class Request:
    """Say what the champion of a finished run sees in images, a line each: file, class, probability."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files of any size (PNG, JPEG, ...), or .npy files of one example or many."""


def champion(folder: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """The champion of a run, as a function, and the run's result.

    The function takes examples `[n, ...]` as the run's data set has them, and returns class probabilities
    `[n, classes]`.

    Raises:
        InputError: if the folder holds no finished run, or a damaged one.
    """
    result = read_result(folder)
    experiment = importlib.import_module(f"jevo.experiments.{result['experiment']}")
    return experiment.champion(folder, result), result


def predict(request: Request) -> None:
    """Print a line for each example in the request's images."""
    probabilities_of, result = champion(request.run)
    shape, classes = tuple(result["data"]["shape"]), result["data"]["classes"]
    for path in request.images:
        probabilities = probabilities_of(read_images([path], shape, result["data"]["top"]))
        for i, row in enumerate(probabilities):
            name = f"{path}[{i}]" if len(probabilities) > 1 else str(path)
            print(f"{name}  {classes[int(row.argmax())]}  {row.max():.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.images:
            raise InputError("predict takes a run folder and at least one image: python -m jevo.predict RUN IMAGE...")
        predict(request)


if __name__ == "__main__":
    main()
