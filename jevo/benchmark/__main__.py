"""What a population costs on this device, and what it would cost otherwise.

    python -m jevo.benchmark masks --populations 16 256 4096
    python -m jevo.benchmark sgd --budget-s 120
    python -m jevo.benchmark mating
    python -m jevo.benchmark small
    python -m jevo.benchmark hyperparams --data mnist[:5000]
    python -m jevo.benchmark all
    python -m jevo.benchmark parity --space cnn

Each prints a table, and leaves it as JSON in `--out` (runs/benchmark), most of them with a plot. Times are medians and
quartiles of calls that take turns, since a machine's speed drifts; compiling is apart, the first two rounds are
dropped, every call is waited for, and nothing moves between host and device in jevo's own calls. (Of `hyperparams`,
compiling is what is measured: every call is the first. `parity` times nothing: it compares.) Peers that are not
installed are left out: `pip install jevo[peers]`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jevo.benchmark import figures, hyperparams, masks, mating, parity, sgd, small
from jevo.runs.command import plain_errors
from jevo.runs.config import parse, suggestion
from jevo.types import InputError


class Benchmark(NamedTuple):
    """Its settings, what measures, what prints, and what writes into the folder `--out`."""

    settings: type
    measure: Callable[[Any], dict[str, Any]]
    show: Callable[[dict[str, Any]], None] = figures.show
    write: Callable[[Path, dict[str, Any]], None] = figures.write


BENCHMARKS = {
    "masks": Benchmark(masks.Masks, masks.measure),
    "sgd": Benchmark(sgd.Sgd, sgd.measure),
    "mating": Benchmark(mating.Mating, mating.measure),
    "small": Benchmark(small.Small, small.measure),
    "hyperparams": Benchmark(hyperparams.Hyperparams, hyperparams.measure, hyperparams.show, figures.write_json),
    "parity": Benchmark(parity.Parity, parity.measure, parity.show, figures.write_json),
}
ALL = ("masks", "sgd", "mating", "small", "hyperparams")
"""What `all` runs, each with its defaults; it takes no settings but --budget-s and --out."""


def main() -> None:
    with plain_errors():
        named = sys.argv[1:2] and not sys.argv[1].startswith("-")
        what, *arguments = sys.argv[1:] if named else ["masks", *sys.argv[1:]]
        if what != "all" and what not in BENCHMARKS:
            raise InputError(f"benchmark {what!r} is unknown; {suggestion(what, [*BENCHMARKS, 'all'])}")
        for name in ALL if what == "all" else (what,):
            benchmark = BENCHMARKS[name]
            settings = parse(benchmark.settings, arguments)
            # Compile times are figures here, so no program comes from the disk.
            found = benchmark.measure(settings)
            benchmark.show(found)
            benchmark.write(settings.out, found)
            print(f"in {settings.out / name}.json", flush=True)


if __name__ == "__main__":
    main()
