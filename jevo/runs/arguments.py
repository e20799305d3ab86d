"""Settings from a preset, a YAML file and the command line, and back.

Each later source overrides the earlier ones, and each value passes the same checks wherever it comes from.
"""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tyro

from jevo.data.files import expanded
from jevo.errors import InputError, suggestion
from jevo.runs.config import Config, RunConfig
from jevo.runs.help import called, show_help, show_request
from jevo.runs.settings import converted, read_settings

Settings = TypeVar("Settings")

_LONGEST = 500
"""Letters of a complaint, at most: a value may be as long as it likes."""


def from_command_line(kind: type[Config], arguments: Sequence[str] | None = None) -> Config:
    """The settings that the command line asks for.

    Args:
        kind: the experiment's dataclass.
        arguments: without the program's name; by default the process's own.

    Raises:
        InputError: in one line, for an unknown setting or an impossible value.
        SystemExit: after --help.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    file = _option(arguments, "--config")
    chosen = {} if file is None else read_settings(expanded(file))
    preset = _option(arguments, "--preset")
    default = kind.from_preset(converted("preset", chosen.get("preset", "default"), str) if preset is None else preset)
    if file is not None:
        default = _with_settings(default, chosen, file)
    for wish in ("--help", "-h", "--help-all"):
        if wish in arguments:
            show_help(default, called(), everything=wish == "--help-all")
            raise SystemExit(0)
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--"):
            _require_current(kind, flag.removeprefix("--").removeprefix("no-").replace("-", "_"))
    return parse(kind, arguments, default)


def resolved(config: RunConfig) -> dict[str, Any]:
    """Every setting as YAML and JSON can hold it."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def from_settings(kind: type[Config], settings: Mapping[str, Any], source: str) -> Config:
    """The settings that `resolved` wrote, or a part of them over the defaults, checked anew.

    Args:
        kind: the experiment's dataclass.
        settings: by name, as YAML and JSON hold them.
        source: where they come from, for the message.

    Raises:
        InputError: for an unknown setting or an impossible value.
    """
    return _with_settings(kind(), settings, source)


def as_arguments(config: RunConfig) -> list[str]:
    """The command line that gives these settings."""
    given = resolved(type(config).from_preset(config.preset))
    changed = {name: value for name, value in resolved(config).items() if value != given[name] and name != "fresh"}
    if config.preset != "default":
        changed = {"preset": config.preset, **changed}
    return [word for name, value in changed.items() for word in _as_flags(name, value)]


def parse(
    kind: type[Settings],
    arguments: Sequence[str],
    default: Settings | None = None,
    source: str = "",
    command: str = "",
) -> Settings:
    """A dataclass from command-line arguments.

    Args:
        kind: the dataclass; the strings below its fields are its help.
        arguments: without the program's name.
        default: where arguments say nothing; a field of `kind` without a default needs it or an argument.
        source: where the arguments come from, to begin the message with.
        command: as the user calls it, for the help. Unset: as this process was called.

    Raises:
        InputError: in one line, if they do not fit.
        SystemExit: after --help.
    """
    if {"--help", "-h"} & set(arguments):
        show_request(kind, command or called(), default)
        raise SystemExit(0)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if default is None:
                return tyro.cli(kind, args=list(arguments))
            return tyro.cli(kind, args=list(arguments), default=default)
    except SystemExit as stop:
        if not stop.code:
            raise
    raise InputError(source + _one_line(complaint.getvalue()))


def _one_line(box: str) -> str:
    """A boxed complaint as one line: its first paragraph, and the first suggestion if it has one."""
    rows = [line.strip().strip("│╭╮╰╯").strip() for line in box.splitlines()[1:]]
    paragraphs: list[list[str]] = [[]]
    for row in rows:
        if set(row) <= {"─"}:
            paragraphs.append([])
        else:
            paragraphs[-1].append(row)
    line = " ".join(paragraphs[0])
    for title, *rest in filter(None, paragraphs[1:]):
        if title.startswith("Perhaps you meant") and rest:
            line += f"; did you mean {rest[0].split()[0]}?"
        if title.startswith("Argument helptext") and rest:
            line += f"; it takes {rest[0]}"
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
    return line + " (see --help)"


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `name VALUE` or `name=VALUE`, the last one given."""
    found = None
    for i, argument in enumerate(arguments):
        if argument == name and i + 1 < len(arguments):
            found = arguments[i + 1]
        elif argument.startswith(name + "="):
            found = argument.partition("=")[2]
    return found


def _with_settings(default: Config, settings: Mapping[str, Any], source: str) -> Config:
    """The settings of a file over others. None is taken for a flag: each has its own type, and the checks of all."""
    kind = type(default)
    types = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    try:
        for name in settings:
            _require_current(kind, name)
            if name not in known:
                raise InputError(f"unknown setting {name[:60]!r}; {suggestion(name[:60], known)}")
        return dataclasses.replace(
            default, **{name: converted(name, value, types[name]) for name, value in settings.items()}
        )
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _as_flags(name: str, value: Any) -> list[str]:
    """A setting as the command line gives it."""
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    # What begins with a dash would be taken for a flag.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _require_current(kind: type[RunConfig], name: str) -> None:
    """Raise an InputError that names the new word if a setting has another name today."""
    if name in kind.renamed and name not in {field.name for field in dataclasses.fields(kind)}:
        raise InputError(f"setting {name} is called {kind.renamed[name]} now")


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
