"""Shell completion of the command `jevo`.

    jevo completion bash > ~/.local/share/bash-completion/completions/jevo
    jevo completion zsh > ~/.zfunc/_jevo

The script is whole: completing starts no Python.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, get_type_hints

import shtab

from jevo import predict, redraw, summary
from jevo.__main__ import COMMANDS, EXPERIMENTS
from jevo.benchmark.__main__ import BENCHMARKS, All
from jevo.data.datasets import NAMES
from jevo.errors import InputError
from jevo.experiments import experiment
from jevo.runs import RunConfig
from jevo.runs.command import plain_errors
from jevo.runs.help import choices, is_positional


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    with plain_errors():
        if len(given) != 1 or given[0] not in shtab.SUPPORTED_SHELLS:
            raise InputError(
                f"completion takes the name of a shell: jevo completion {'|'.join(shtab.SUPPORTED_SHELLS)}"
            )
        print(shtab.complete(parser(), given[0]))


def parser() -> argparse.ArgumentParser:
    """All that `jevo` takes, as far as a shell can complete it: commands, settings, names of choices, files."""
    top = argparse.ArgumentParser("jevo")
    top.add_argument("--version", action="store_true", help="the version")
    commands = top.add_subparsers()
    for name, words in EXPERIMENTS.items():
        _settings(commands.add_parser(name, help=words), experiment(name).config)
    for name, request in {"predict": predict.Request, "summary": summary.Request, "redraw": redraw.Request}.items():
        _settings(commands.add_parser(name, help=COMMANDS[name]), request)
    benchmarks = commands.add_parser("benchmark", help=COMMANDS["benchmark"]).add_subparsers()
    for name, settings in {**{name: each.settings for name, each in BENCHMARKS.items()}, "all": All}.items():
        _settings(benchmarks.add_parser(name, help=str(settings.__doc__).partition(".")[0]), settings)
    shell = commands.add_parser("completion", help=COMMANDS["completion"])
    shell.add_argument("shell", choices=list(shtab.SUPPORTED_SHELLS))
    return top


def _settings(command: argparse.ArgumentParser, kind: Any) -> None:
    if issubclass(kind, RunConfig):
        command.add_argument("--help-all", action="store_true")
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, dashed = hints[field.name], f"--{field.name.replace('_', '-')}"
        names = _names(kind, field.name) or choices(hint)
        how: dict[str, Any] = {"choices": names} if names else {}
        if hint is bool:
            how["action"] = argparse.BooleanOptionalAction
        elif "tuple" in str(hint):
            how["nargs"] = "*"
        taken: Any = command.add_argument(field.name if is_positional(hint) else dashed, **how)
        if not names and "Path" in str(hint):
            taken.complete = shtab.FILE


def _names(kind: Any, name: str) -> list[str]:
    """What a setting that takes text is mostly given."""
    if not issubclass(kind, RunConfig):
        return []
    return {"preset": list(kind.presets), "data": list(NAMES)}.get(name, [])
