"""What a population costs on this device.

    python -m jevo.benchmark masks --population 100 --images 2000
    python -m jevo.benchmark sgd --population 64
    python -m jevo.benchmark hyperparams --data mnist[:5000]
    python -m jevo.benchmark parity --space cnn

Times are medians of calls that take turns, since a machine's speed drifts; compiling is apart, the first two calls are
dropped, and every call is waited for. (Of `hyperparams`, compiling is what is measured: every call is the first.
`parity` times nothing: it compares.)
"""

import json
import sys

from jevo.benchmark import hyperparams, masks, parity, sgd
from jevo.data.files import write_whole
from jevo.runs.command import plain_errors
from jevo.runs.config import parse, suggestion
from jevo.types import InputError

BENCHMARKS = {
    "masks": (masks.Masks, masks.measure, masks.show),
    "sgd": (sgd.Sgd, sgd.measure, sgd.show),
    "hyperparams": (hyperparams.Hyperparams, hyperparams.measure, hyperparams.show),
    "parity": (parity.Parity, parity.measure, parity.show),
}


def main() -> None:
    with plain_errors():
        named = sys.argv[1:2] and not sys.argv[1].startswith("-")
        what, *arguments = sys.argv[1:] if named else ["masks", *sys.argv[1:]]
        if what not in BENCHMARKS:
            raise InputError(f"benchmark {what!r} is unknown; {suggestion(what, BENCHMARKS)}")
        kind, measure, show = BENCHMARKS[what]
        settings = parse(kind, arguments)
        result = measure(settings)
        show(result)
        if settings.out:
            write_whole(settings.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
