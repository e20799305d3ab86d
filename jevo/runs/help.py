"""The help of a command: its settings in groups, the few that matter or all of them, presets and examples."""

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rich.console import Console
from rich.text import Text

from jevo.runs.config import RunConfig

_WIDTH = 100
"""Letters in a line, at most: longer ones are hard to read."""
_LEFT = 24
"""Letters to the left of what is said of a setting."""


def show_request(kind: type, command: str, default: Any = None) -> None:
    """Print the help of a command that takes a dataclass of settings.

    Args:
        kind: the dataclass; its docstring, and those below its fields, are what is said.
        command: as the user calls it.
        default: what settings are by default, if not as the dataclass says.
    """
    console, texts = _console(), docstrings(kind)
    hints = get_type_hints(kind, include_extras=True)
    first = {name: f"{name.upper()}{'...' if '...' in str(hint) else ''}" for name, hint in hints.items()}
    first = {name: words for name, words in first.items() if is_positional(hints[name])}
    console.print(Text.assemble("usage: ", (" ".join([command, *first.values()]), "bold"), " [settings]"))
    for paragraph in (inspect.getdoc(kind) or "").split("\n\n"):
        console.print(Text("\n" + " ".join(paragraph.split())))
    _show(console, "takes", [(words, texts[name]) for name, words in first.items()])
    values = {field.name: getattr(default, field.name, field.default) for field in dataclasses.fields(kind)}
    values = {name: None if value is dataclasses.MISSING else value for name, value in values.items()}
    rest = [name for name in hints if name not in first]
    rows = [(flag(name, hints[name]), _said(texts[name], hints[name], values[name], True)) for name in rest]
    _show(console, "settings", rows)


def show_help(config: RunConfig, command: str, everything: bool) -> None:
    """Print the help of an experiment.

    Args:
        config: the settings that the command line begins with: of its preset and file.
        command: as the user calls it, such as `jevo masks`.
        everything: all settings with all that there is to say, rather than the few that matter.
    """
    kind, console = type(config), _console()
    console.print(Text.assemble("usage: ", (command, "bold"), " [settings]"), Text(_summary(kind)), sep="\n\n")
    _show(console, "presets (--preset NAME; other settings override it)", kind.recipes.items())
    unread = kind.idle | config.unread.keys()
    texts, hints = docstrings(kind), get_type_hints(kind)
    for title, names in groups(kind).items():
        shown = [name for name in names if (everything or name in kind.common) and name not in unread]
        rows = [
            (flag(name, hints[name]), _said(texts[name], hints[name], getattr(config, name), everything))
            for name in shown
        ]
        _show(console, title, rows)
    if everything:
        rows = [(_dashed(name), f"takes {takes}") for name, takes in config.unread.items() if name not in kind.idle]
        _show(console, "without effect as it is", rows)
    console.print(Text("\nexamples", "bold"))
    for example in kind.examples:
        console.print(f"  {command} {example}".rstrip(), soft_wrap=True)
    if not everything:
        console.print(f"\nAll settings, and more of each: {command} --help-all", soft_wrap=True)


def groups(kind: type[RunConfig]) -> dict[str, list[str]]:
    """The names of an experiment's settings by their group, in order; those of no group are of its search."""
    grouped = {name: title for title, names in kind.groups.items() for name in names}
    found: dict[str, list[str]] = {"search": [], **{title: [] for title in kind.groups}}
    for field in dataclasses.fields(kind):
        if field.name != "preset":
            found[grouped.get(field.name, "search")].append(field.name)
    return found


def docstrings(kind: type) -> dict[str, str]:
    """What is written below each field of a dataclass, or of those that it inherits from, each on one line."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def flag(name: str, kind: Any) -> str:
    """A setting as it is given: `--hidden INT ...`."""
    if kind is bool:
        return f"--[no-]{name.replace('_', '-')}"
    return f"{_dashed(name)} {_takes(kind)}"


def choices(kind: Any) -> list[str]:
    """The names that a type takes, if it is of names."""
    if get_origin(kind) is Literal:
        return [str(each) for each in get_args(kind)]
    return choices(get_args(kind)[0]) if get_origin(kind) is tuple else []


def is_positional(kind: Any) -> bool:
    """Whether a value of this type, with what is annotated to it, is given without a flag."""
    return any("Positional" in str(each) for each in getattr(kind, "__metadata__", ()))


def called() -> str:
    """The command of this process as its user calls it: `jevo masks`, or `python -m jevo.experiments.masks`."""
    path, spec = Path(sys.argv[0]), getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name.removesuffix('.__main__')}" if spec else path.stem
    which = sys.argv[1:2] if program in ("jevo", "python -m jevo") else []
    return " ".join([program, *which])


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _takes(kind: Any) -> str:
    """What a type takes, as usage lines say it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return "|".join(dict.fromkeys(_takes(each) for each in inner if each is not type(None)))
    if origin is Literal:
        return "NAME"
    if origin is tuple:
        return f"{_takes(inner[0])} ..." if inner[1:] == (...,) else " ".join(map(_takes, inner))
    return {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}[kind]


def _said(text: str, kind: Any, value: Any, everything: bool) -> Text:
    """What is said of a setting, what it may be, and its default."""
    names = choices(kind)
    if not everything:
        # The first words say what it is; what each choice does is more.
        text = re.split(r"\. |; |: " if names else r"\. |; ", text)[0]
        text = re.sub(r" \[[a-z ]+\]$", "", text.removesuffix(".")) + "."
    if names:
        text = f"{text.removesuffix('.')}: {', '.join(names)}."
    value = " ".join(map(str, value)) if isinstance(value, tuple) else value
    default = "" if value in (None, "") else f" [{'yes' if value is True else 'no' if value is False else value}]"
    return Text.assemble(text, (default, "dim"))


def _summary(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split())


def _show(console: Console, title: str, rows: Iterable[tuple[str, str | Text]]) -> None:
    """A group: what is given on the left, what it is on the right; a long name has a line of its own."""
    rows = list(rows)
    if rows:
        console.print(Text(f"\n{title}", "bold"))
    for given, text in rows:
        lines = Text.assemble(text).wrap(console, console.width - _LEFT)
        if len(given) + 4 > _LEFT:
            console.print(f"  {given}", soft_wrap=True)
            given = ""
        for line in lines:
            console.print(Text.assemble(f"  {given}".ljust(_LEFT), line), soft_wrap=True)
            given = ""


def _console() -> Console:
    return Console(highlight=False, width=min(Console().width, _WIDTH))
