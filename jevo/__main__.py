"""The command `jevo`, which is also `python -m jevo`: what there is, and the way to it."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from jevo.version import __version__

EXPERIMENTS = {
    "masks": "which weights of a random network to keep",
    "weights": "train a network without a derivative",
    "hybrid": "train by gradient, mate, and again",
    "autoencoder": "one weight matrix at a time",
    "hyperparams": "search over architectures and training settings",
}
COMMANDS = {
    "predict": "ask the champion of a run: jevo predict RUN IMAGE...",
    "summary": "median and range of runs over their seeds: jevo summary RUN...",
    "redraw": "draw the figures of runs again, from what their folders hold",
    "benchmark": "what a population costs on this device",
    "completion": "for your shell: jevo completion bash|zsh|fish",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names; without one, say what there is."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("--version", "-V"):
        print(f"jevo {__version__}")
    elif name in ("--help", "-h", "help"):
        print(_overview())
    else:
        _command(name)(rest)


def _overview() -> str:
    rows = [f"  {name:<13}{words}" for name, words in {**EXPERIMENTS, **COMMANDS}.items()]
    title = f"jevo {__version__}: start with jevo masks; jevo COMMAND --help says more of each"
    return "\n".join([title, *rows])


def _command(name: str) -> Callable[[Sequence[str]], None]:
    """What runs a command, imported as it is called for: `jevo` alone answers at once."""
    from jevo.errors import InputError, suggestion
    from jevo.runs.command import main, plain_errors

    if name in EXPERIMENTS:
        from jevo.experiments import experiment

        return lambda rest: main(experiment(name), rest)
    if name in COMMANDS:
        module = "jevo.completion" if name == "completion" else f"jevo.{name}"
        return import_module("jevo.benchmark.__main__" if name == "benchmark" else module).main
    with plain_errors():
        raise InputError(f"command {name!r} is unknown; {suggestion(name, [*EXPERIMENTS, *COMMANDS])}")


if __name__ == "__main__":
    main()
