"""Several runs of one experiment as one line: the median over their seeds, and the range.

python -m jevo.summary RUN RUN RUN
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jevo.errors import InputError
from jevo.experiments import experiment
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors
from jevo.runs.record import read_result
from jevo.runs.report import by_seed, table


@dataclass(frozen=True)
class Request:
    """Print a Markdown table of runs that differ in their seed: the median of each metric, and its range."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs."""


def summarize(results: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a row for the experiment, for its control and for each reference.

    Args:
        results: what the `result.json` of each run holds.

    Raises:
        InputError: if they differ in more than their seed.
    """
    first = results[0]
    free = experiment(first["experiment"]).config.free | {"seed"}
    for other in results[1:]:
        changed = [n for n in first["config"] if n not in free and first["config"][n] != other["config"].get(n)]
        if changed:
            raise InputError(f"these runs differ in more than their seed: {', '.join(changed)}; summarise them apart")
    seeds = [str(one["seed"]) for result in results for one in by_seed(result)]
    return f"{table(results)}\n\nMedian (range) of seeds {', '.join(seeds)}."


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.runs:
            raise InputError("summary takes the folders of finished runs: python -m jevo.summary RUN RUN ...")
        print(summarize([read_result(run) for run in request.runs]))


if __name__ == "__main__":
    main()
