"""Draw the figures of finished runs again, from what their folders hold, and those of benchmarks, from their JSON.

python -m jevo.redraw RUN RUN BENCHMARK.json

Curves, fronts, genes, families and networks are drawn from the settings, the result, the metrics and the tables of a
run. What needs its data, such as a confusion matrix, is drawn by the run alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jevo.benchmark import figures
from jevo.errors import InputError
from jevo.experiments import experiment
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors
from jevo.runs.folder import read_json, require_shape
from jevo.runs.record import read_result


@dataclass(frozen=True)
class Request:
    """Draw the figures of finished runs and of benchmarks again, as far as what was kept suffices for it."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs, or JSON files of benchmarks."""


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


def redraw_benchmark(file: Path) -> Path:
    """Draw what a benchmark has measured again.

    Args:
        file: that it wrote, `NAME.json`.

    Raises:
        InputError: if it holds no throughputs.
    """
    advice = "give the JSON file of a benchmark that draws one: masks, sgd, mating or small"
    found = read_json(file, advice)
    require_shape(found, _BENCHMARK, file, advice)
    path = figures.draw(file.parent, found)
    print(f"{path}: drawn")
    return path


_TIMES = {"median": (int, float), "lower": (int, float), "upper": (int, float)}
_ROW = {"name": str, "population": int, "per_second": (int, float), "seconds": _TIMES}
_BENCHMARK = {"benchmark": str, "unit": str, "rows": [_ROW], "device": {"kind": str, "cores": int}}


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.runs:
            raise InputError("redraw takes the folders of finished runs: python -m jevo.redraw RUN RUN ...")
        for run in request.runs:
            redraw_benchmark(run) if run.suffix == ".json" else redraw(run)


if __name__ == "__main__":
    main()
