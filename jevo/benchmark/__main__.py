"""What a population costs on this device, and what it would cost otherwise.

    python -m jevo.benchmark masks --populations 16 256 4096
    python -m jevo.benchmark sgd --budget-s 120
    python -m jevo.benchmark mating
    python -m jevo.benchmark small
    python -m jevo.benchmark hyperparams --data mnist[:5000]
    python -m jevo.benchmark scaling
    python -m jevo.benchmark precision --data mnist
    python -m jevo.benchmark all
    python -m jevo.benchmark parity --space cnn

Each prints a table, and leaves it as JSON in `--out` (runs/benchmark), most of them with a plot. Times are medians and
quartiles of calls that take turns, since a machine's speed drifts; compiling is apart, the first two rounds are
dropped, every call is waited for, and nothing moves between host and device in jevo's own calls. (Of `hyperparams`,
compiling is what is measured: every call is the first. `precision` and `parity` time nothing: they compare.) Peers that
are not installed are left out: `pip install jevo[peers]`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jevo.benchmark import figures, hyperparams, masks, mating, parity, precision, scaling, sgd, small
from jevo.errors import InputError, suggestion
from jevo.runs.arguments import parse
from jevo.runs.command import plain_errors
from jevo.runs.help import called


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
    "scaling": Benchmark(scaling.Scaling, scaling.measure, scaling.show, figures.write_json),
    "precision": Benchmark(precision.Precision, precision.measure, precision.show, figures.write_json),
    "parity": Benchmark(parity.Parity, parity.measure, parity.show, figures.write_json),
}


@dataclass(frozen=True)
class All:
    """Run masks, sgd, mating, small and hyperparams, each with its defaults."""

    budget_s: float = 60.0
    """Seconds of timed calls of each (hyperparams has no budget: it takes a minute or two)."""
    out: Path = Path("runs/benchmark")
    """Folder for the tables as JSON, and the plots."""

    def each(self) -> list[tuple[Benchmark, Any]]:
        """The benchmarks and their settings."""
        timed = [BENCHMARKS[name] for name in ("masks", "sgd", "mating", "small")]
        chosen = [(one, one.settings(budget_s=self.budget_s, out=self.out)) for one in timed]
        last = BENCHMARKS["hyperparams"]
        return [*chosen, (last, last.settings(out=self.out))]


def main(arguments: Sequence[str] | None = None) -> None:
    with plain_errors():
        given = list(sys.argv[1:] if arguments is None else arguments)
        named = given and not given[0].startswith("-")
        what, *rest = given if named else ["masks", *given]
        if what != "all" and what not in BENCHMARKS:
            raise InputError(f"benchmark {what!r} is unknown; {suggestion(what, [*BENCHMARKS, 'all'])}")
        command = f"{called()} {what}"
        if what == "all":
            chosen = parse(All, rest, command=command).each()
        else:
            chosen = [(BENCHMARKS[what], parse(BENCHMARKS[what].settings, rest, command=command))]
        # Compile times are figures here, so no program comes from the disk.
        for benchmark, settings in chosen:
            found = benchmark.measure(settings)
            benchmark.show(found)
            benchmark.write(settings.out, found)
            print(f"in {settings.out / found['benchmark']}.json", flush=True)


if __name__ == "__main__":
    main()
