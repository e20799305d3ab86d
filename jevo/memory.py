"""Memory that is free for this process: the machine's own, or less where a cgroup has a limit (a container, a job of
Slurm, a slice of systemd), beyond which the kernel kills without asking."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class _Version(NamedTuple):
    """How a version of cgroups names things: limits, what is used, and in `memory.stat` what of that is a cache of
    files, which the kernel gives up before it kills anybody."""

    mounts: tuple[str, ...]
    limits: tuple[str, ...]
    usage: str
    cached: tuple[str, ...]


_V1 = _Version(
    ("sys/fs/cgroup/memory",),
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_V2 = _Version(
    ("sys/fs/cgroup", "sys/fs/cgroup/unified"),
    ("memory.max", "memory.high"),
    "memory.current",
    ("inactive_file", "active_file"),
)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take: the least of what the machine has and what each cgroup above it leaves.

    Args:
        root: of the file system that tells, which has `proc` and `sys`.

    Returns:
        None where nobody tells.
    """
    import psutil

    try:
        rooms = [psutil.virtual_memory().available]
    except (OSError, RuntimeError, NotImplementedError):  # A sandbox that hides it.
        rooms = []
    return min([*rooms, *cgroup_rooms(root)], default=None)


def mappings_used(root: Path = Path("/")) -> float:
    """The share of the mappings of memory that Linux lets a process have which this one has taken.

    Args:
        root: of the file system that tells.

    Returns:
        0 where nobody tells.
    """
    limit = _number(_text(root / "proc/sys/vm/max_map_count"))
    return _text(root / "proc/self/maps").count("\n") / limit if limit else 0.0


def cgroup_rooms(root: Path) -> Iterator[int]:
    """What each memory limit on the way up from this process's cgroup leaves, in bytes; nothing where there is none.

    Args:
        root: of the file system that tells.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            version = _V2
        elif "memory" in controllers.split(","):
            version = _V1
        else:
            continue
        # Within a container the path may be the host's, of which the container sees the last part, or only the root.
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for mount in version.mounts:
            for depth in range(len(parts), -1, -1):
                yield from _rooms(root.joinpath(mount, *parts[:depth]), version)


def _rooms(folder: Path, version: _Version) -> Iterator[int]:
    used = _number(_text(folder / version.usage))
    limits = [limit for name in version.limits if (limit := _number(_text(folder / name))) is not None]
    if used is None or not limits:
        return
    stat = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    cached = sum(_number(stat.get(name, "")) or 0 for name in version.cached)
    yield max(0, min(limits) - max(0, used - cached))


def _number(text: str) -> int | None:
    """Bytes; None for `max`, and for whatever else is no number."""
    return int(text) if text.strip().isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
