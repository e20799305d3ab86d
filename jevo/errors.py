"""What a user is told when something they gave cannot be used."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used. Its message is one plain line that names what was wrong,
    what was expected and what to do; the command line prints it and exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: in a notebook, too, the line says all."""
        return [f"error: {self}"]


def require(holds: bool, setting: str, value: Any, takes: str) -> None:
    """Raise an InputError that names the setting, what it got and what it takes, unless `holds`."""
    if not holds:
        raise InputError(f"setting {setting} is {value}, but takes {takes}")


def suggestion(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Words for an unknown name: the nearest known one if there is one near, and all of them."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"
