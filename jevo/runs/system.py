"""What the system refuses: a full disk, too many open files, a folder that is gone. Each library says it in its way."""

import errno
import os
import re
from collections.abc import Iterator

REFUSALS = frozenset(
    getattr(errno, name)
    for name in [
        "EACCES",
        "EAGAIN",
        "EDQUOT",
        "EFBIG",
        "EIO",
        "EMFILE",
        "ENFILE",
        "ENODEV",
        "ENOMEM",
        "ENOSPC",
        "ENOTCONN",
        "EPERM",
        "EROFS",
        "ESTALE",
    ]
    if hasattr(errno, name)
)
"""Errors that no damaged file and no mistake of a program leads to."""


def system_reason(error: BaseException) -> str | None:
    """What the system has refused, in one line; None for an error that is something else.

    Libraries wrap what the system says in errors of their own, or only quote it (TensorStore, for one, raises a
    ValueError), so causes are looked through, and messages.

    >>> system_reason(OSError(errno.ENOSPC, "No space left on device", "runs/a/result.json"))
    'No space left on device: runs/a/result.json'
    >>> system_reason(ValueError('OUT_OF_RANGE: Failed to write 9 bytes to file 7: "/a/b": [os_error_code=\\'28\\']'))
    'No space left on device: /a/b'
    >>> system_reason(ValueError("an exponent of 28"))
    """
    for each in _chain(error):
        if isinstance(each, MemoryError):
            return f"not enough memory ({_first_line(each)})" if str(each) else "not enough memory"
        if isinstance(each, OSError) and each.errno in REFUSALS:
            return _with_place(each.strerror or str(each), each.filename)
        if isinstance(each, (OSError, ValueError, RuntimeError)) and (found := _quoted(str(each))):
            return found
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and what was being handled as it was raised."""
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _quoted(message: str) -> str | None:
    """What the system refused, of a message that only quotes it."""
    if "can't start new thread" in message:
        return "can't start another thread: too many are running, or there is no memory for one"
    code = re.search(r"os_error_code='?(\d+)|\[Errno (\d+)\]|OS error (\d+)", message)
    number = int(next(filter(None, code.groups()))) if code else None
    if number is None:
        number = next((number for number in REFUSALS if f": {os.strerror(number)}" in message), None)
    if number is None or number not in REFUSALS:
        return None
    # The innermost place comes last.
    places = re.findall(r"[\"'](/[^\"'\\\n]*)", message)
    return _with_place(os.strerror(number), places[-1] if places else None)


def _with_place(reason: str, place: object) -> str:
    return f"{reason}: {os.fsdecode(place) if isinstance(place, (str, bytes)) else place}" if place else reason


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
