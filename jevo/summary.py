"""Several runs of one experiment as one line: the median over their seeds, and the range.

python -m jevo.summary RUN RUN RUN
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jevo.data.datasets import SPLITS
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
        names = dict.fromkeys([*first["config"], *other["config"]])
        changed = [n for n in names if n not in free and first["config"].get(n) != other["config"].get(n)]
        if other["experiment"] != first["experiment"]:
            raise InputError("these are runs of different experiments; summarise them apart")
        read, too = ({"data": _kind(result), **result.get("contents", {})} for result in (first, other))
        changed += [f"what is in the {name}" for name in {**read, **too} if read.get(name) != too.get(name)]
        changed += [name for name in ("metrics", "references") if _names(first, name) != _names(other, name)]
        if changed:
            raise InputError(f"these runs differ in more than their seed: {', '.join(changed)}; summarise them apart")
    seeds = [str(one["seed"]) for result in results for one in by_seed(result)]
    if twice := sorted(seed for seed, count in Counter(seeds).items() if count > 1):
        raise InputError(f"seed {', '.join(twice)} is there more than once; give each run once")
    return f"{table(results)}\n\nMedian (range) of seeds {', '.join(seeds)}."


def _kind(result: Mapping[str, Any]) -> list[Any]:
    """What even a result without digests says of its data."""
    return [result["data"][name] for name in ("shape", "classes", *SPLITS)]


def _names(result: Mapping[str, Any], part: str) -> set[str]:
    return set(result["metrics"]["test"] if part == "metrics" else result[part])


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        request = parse(Request, sys.argv[1:] if arguments is None else arguments)
        if not request.runs:
            raise InputError("summary takes the folders of finished runs: python -m jevo.summary RUN RUN ...")
        print(summarize([read_result(run) for run in request.runs]))


if __name__ == "__main__":
    main()
