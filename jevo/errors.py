"""What a user is told when something they gave cannot be used."""

import difflib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used. Its message is one plain line that names what was wrong,
    what was expected and what to do; the command line prints it and exits with code 2.

    Args:
        message: what it holds of the user's own may have line breaks or other letters that do not print, which become
            escapes: `\\n`.
    """

    def __init__(self, message: str):
        super().__init__(on_one_line(shortened(message, 1500)))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: in a notebook, too, the line says all."""
        return [f"error: {self}"]


def require(holds: bool, setting: str, value: Any, takes: str) -> None:
    """Raise an InputError that names the setting, what it got and what it takes, unless `holds`."""
    if not holds:
        raise InputError(f"setting {setting} is {shortened(value)}, but takes {takes}")


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, of whatever type, and no truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def require_count(value: Any, what: str, least: int = 1) -> None:
    """Raise a ValueError unless a value is an integer that is large enough.

    Args:
        value: what an argument got.
        what: it is, to begin the message with.
        least: it may be.
    """
    if not is_whole(value) or value < least:
        raise ValueError(f"{what} is an integer, at least {least}, not {shortened(value)}")


def on_one_line(text: str) -> str:
    """A text whose line breaks, and other letters that do not print, have become escapes: `\\n`."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shortened(value: Any, letters: int = 80) -> str:
    """A value as text of at most so many letters."""
    # Python writes no integer of thousands of digits.
    huge = isinstance(value, int) and value.bit_length() > 10_000
    text = f"a number of {value.bit_length():,} bits" if huge else str(value)
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def suggestion(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Words for an unknown name: the nearest known one if there is one near, and all of them."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"
