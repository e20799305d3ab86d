"""Draw the figures of finished runs again, from what their folders hold.

python -m jevo.redraw RUN RUN

Curves, fronts, genes, families and networks are drawn from the settings, the result, the metrics and the tables of a
run. What needs its data, such as a confusion matrix, is drawn by the run alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jevo.errors import InputError
from jevo.experiments import experiment
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors
from jevo.runs.record import read_result


@dataclass(frozen=True)
class Request:
    """Draw the figures of finished runs again, as far as their folders suffice for it."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs."""


def redraw(folder: Path) -> list[Path]:
    """Draw the figures of a run again, and say of each what became of it.

    Args:
        folder: of a finished run, or what was kept of one.

    Returns:
        What was drawn.

    Raises:
        InputError: if there is no result, or nothing to draw from.
    """
    result, drawn = read_result(folder), []
    for name, draw in experiment(result["experiment"]).redrawn(folder, result).items():
        try:
            draw(folder / name)
        except InputError as error:
            print(f"{folder / name}: not drawn ({error})")
        else:
            drawn.append(folder / name)
            print(f"{folder / name}: drawn")
    if not drawn:
        raise InputError(f"{folder} holds nothing to draw figures from; run the experiment again with fresh")
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.runs:
            raise InputError("redraw takes the folders of finished runs: python -m jevo.redraw RUN RUN ...")
        for run in request.runs:
            redraw(run)


if __name__ == "__main__":
    main()
