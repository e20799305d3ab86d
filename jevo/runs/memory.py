"""How many members a device has room for at once."""

import sys
from pathlib import Path
from typing import Any

import jax


def members_at_once(asked: int, on_cpu: int) -> int:
    """The chunk that a setting means: what was asked for, or for 0 what suits the device.

    That is `on_cpu` on a CPU, where a chunk should fit the cache; elsewhere all there are, until a program turns out
    not to fit (`run_stage` then takes half).
    """
    return asked or (on_cpu if jax.default_backend() == "cpu" else sys.maxsize)


def needs(program: jax.stages.Compiled) -> int:
    """Bytes that a compiled program needs at its peak, its arguments and results included, by XLA's own count."""
    memory: Any = program.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def require_room(program: jax.stages.Compiled) -> None:
    """Raise what the device would raise if the program's temporaries do not fit the memory that is free.

    On a CPU the system would not refuse, but swap, or kill the process.

    Raises:
        jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED.
    """
    memory: Any = program.memory_analysis()
    wanted = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    room = _free()
    if room is not None and wanted > room:
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {wanted} bytes are wanted, {room} are free")


def is_exhausted(error: Exception) -> bool:
    """Whether a device ran out of memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _free() -> int | None:
    """Free bytes of the device, or None where nobody tells."""
    device = jax.local_devices()[0]
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    if device.platform != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
