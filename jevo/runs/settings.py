"""What a user's YAML holds: read within bounds, and each setting brought to its type, or refused in one line."""

import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from jevo.data.files import is_file
from jevo.errors import InputError, shortened

_BYTES = 100_000
"""Of a file, at most: settings are a few lines, and more take seconds to parse."""
_DEPTH = 20
"""Lists and mappings within one another, at most."""
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Words(yaml.SafeLoader):
    """Plain YAML in which every scalar is the text that is written, but for nothing at all (~, null)."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (PyYAML's own way)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if not isinstance(name, str):
                raise InputError(
                    f"line {line} has the name {shortened(repr(name))}, which is no text; put it in quotes"
                )
            if name in seen:
                raise InputError(f"line {line}: {shortened(name)} is there twice; give it once")
            seen.add(name)
        return super().construct_mapping(node, deep)


_Words.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


class _Loader(_Words):
    """YAML 1.2's core schema: no is a word, 010 is ten, 1:30 is a word and 1e-3 a number."""


def _number(loader: Any, node: Any) -> Any:
    text = node.value
    if len(text) > 100:
        raise InputError(f"line {node.start_mark.line + 1} has a number of {len(text):,} digits")
    return int(text) if _INTEGER.fullmatch(text) else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_implicit_resolver("jevo:number", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_constructor("jevo:number", _number)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a YAML file by name, each as it is written: text, None, or a list or mapping of these. Whether
    1e3 is a number or a word, the type of its setting says: `converted`.

    Raises:
        InputError: as `read_yaml`.
    """
    return _read(path, _Words)


def read_yaml(path: Path) -> dict[str, Any]:
    """What is in a YAML file, which holds `name: value` lines and nothing that runs.

    Raises:
        InputError: if it cannot be read, is no such file, or is larger or more deeply nested than any settings are.
    """
    return _read(path, _Loader)


def _read(path: Path, loader: type[_Words]) -> dict[str, Any]:
    shown = shortened(path, 300)
    if not is_file(path):
        raise InputError(f"cannot read the config file {shown}: there is no such file")
    try:
        if path.stat().st_size > _BYTES:
            raise InputError(f"the config file {shown} has {path.stat().st_size:,} bytes, which no settings have")
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the config file {shown}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"the config file {shown} is no UTF-8 text (line {line}); save it as UTF-8") from None
    try:
        _require_plain(text)
        settings = yaml.load(text, loader)
    except InputError as error:
        raise InputError(f"the config file {shown}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the config file {shown} is not YAML: {reason}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise InputError(f"the config file {shown} should hold 'setting: value' lines, not {type(settings).__name__}")
    return settings


def _require_plain(text: str) -> None:
    """Raise an InputError for what no settings need, and what can make a small file a large thing."""
    depth = 0
    for event in yaml.parse(text, _Words):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1
        if depth > _DEPTH:
            raise InputError(f"line {line} has lists in lists, more than {_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InputError(f"line {line} has an anchor or alias (& or *); write the value out, or in quotes")
        if getattr(event, "tag", None) and not (isinstance(event, yaml.ScalarEvent) and event.tag == "!"):
            raise InputError(f"line {line} has the tag {event.tag}; settings are plain values")


def converted(name: str, value: Any, kind: Any) -> Any:
    """A value of a file as the type of its setting.

    Args:
        name: of the setting, for the message.
        value: as `read_settings` and JSON give it: text, a number, true or false, nothing, or a list.
        kind: the type, as annotated.

    Raises:
        InputError: if it is none.
    """
    found = _converted(value, kind)
    if found is _NOT:
        shown = shortened(value if isinstance(value, int) else repr(value), 60)
        raise InputError(f"setting {name} is {shown}, but takes {_words(kind)}")
    return found


_NOT = object()
"""What is not of a type."""
_SWITCH = {True: True, "true": True, "True": True, "TRUE": True}
_SWITCH |= {False: False, "false": False, "False": False, "FALSE": False}


def _converted(value: Any, kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        found = (_converted(value, each) for each in inner)
        return next((each for each in found if each is not _NOT), _NOT)
    if kind is type(None):
        return None if value is None else _NOT
    if origin is Literal:
        return value if value in inner and not isinstance(value, bool) else _NOT
    if origin is tuple:
        values = value if isinstance(value, list | tuple) else [value]
        kinds = [inner[0]] * len(values) if inner[1:] == (...,) else list(inner)
        found = [_converted(each, of) for each, of in zip(values, kinds, strict=False)]
        return _NOT if len(values) != len(kinds) or any(each is _NOT for each in found) else tuple(found)
    if kind is bool:
        return _SWITCH.get(value, _NOT) if isinstance(value, str | bool) else _NOT
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _NOT
    if isinstance(value, int) and value.bit_length() > 300:
        return _NOT
    text = str(value)
    if kind in (str, Path):
        return kind(text) if _is_text(text) else _NOT
    if kind is int:
        return int(text) if not isinstance(value, float) and len(text) < 100 and _INTEGER.fullmatch(text) else _NOT
    if kind is float:
        if isinstance(value, str):
            return float(value) if len(value) < 100 and _FLOAT.fullmatch(value) and "n" not in value.lower() else _NOT
        return float(value)
    raise TypeError(f"no setting has the type {kind}")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _words(kind: Any) -> str:
    """Words for a type."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(each) for each in inner)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin is tuple:
        return f"a list, each {_words(inner[0])}" if inner[1:] == (...,) else f"{len(inner)} values in a list"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return {**plain, type(None): "nothing"}[kind]
