"""A run of several processes, on one host or on many: each has devices of its own, and all run the same program.

Process 0 keeps the run's books; the others keep theirs in a folder that is deleted, and say nothing. So an experiment
need not know how many there are.
"""

import ipaddress
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

from jevo.devices import AXIS
from jevo.errors import InputError, require

AUTO = "auto"
"""The coordinator's name where the environment says who takes part."""
HEARTBEAT_S = 30
"""How long a process may be silent before it counts as lost [s]."""
SETTLE_S = 10
"""How long a network file system may take to show one host what another has written [s]."""
LONGEST = 2000
"""Bytes of a message that process 0 hands to the others."""


def join(coordinator: str, processes: int | None, process_id: int | None) -> None:
    """Become one of the processes of a run; nothing to do for a run of this process alone, or if that is done.

    Args:
        coordinator: `HOST:PORT` of process 0; `auto` where Slurm, Open MPI, GKE or Cloud TPU tell; "" for this process
            alone.
        processes: how many there are; None where the environment tells.
        process_id: which one this is, from 0; None where the environment tells.

    Raises:
        InputError: if the others cannot be reached.
    """
    if not coordinator or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            None if coordinator == AUTO else coordinator,
            processes,
            process_id,
            coordinator_bind_address=_bind_address(coordinator, process_id),
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot join the other processes (coordinator {coordinator}): {reason}; "
            "give the coordinator HOST:PORT of process 0, and processes and process_id to each"
        ) from None


def _bind_address(coordinator: str, process_id: int | None) -> str | None:
    """The address of this host that process 0 listens on: the one that was given, and not, as JAX would, all of them.
    Whoever reaches the coordinator can take part in the run.

    None leaves it to JAX: for the other processes, which listen nowhere; where the environment tells (`auto`,
    `JAX_COORDINATOR_BIND_ADDRESS`); and, said by process 0, where no interface of this host has the address, as behind
    a network address translation.
    """
    if coordinator == AUTO or process_id or "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    host, _, port = coordinator.rpartition(":")
    host = host.strip("[]")
    try:
        there = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(
            f"cannot find the host of the coordinator {coordinator} ({error.strerror}); give HOST:PORT of process 0"
        ) from None
    for family, address in ((family, str(place[0])) for family, *_, place in there):
        # Many a host has its own name for an address of loopback, which leads the others to themselves.
        if ipaddress.ip_address(address.partition("%")[0]).is_loopback and host not in (address, "localhost"):
            continue
        with socket.socket(family) as tried:
            try:
                tried.bind((address, 0))
            except OSError:
                continue
            return f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"
    if process_id == 0:
        print(
            f"note: no interface of this host is known to have the address of the coordinator {coordinator}, so "
            "process 0 listens on all; JAX_COORDINATOR_BIND_ADDRESS names one",
            file=sys.stderr,
        )
    return None


def several() -> bool:
    """Whether this is a run of more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def broadcast(line: str) -> str:
    """What process 0 says, in every process."""
    if not several():
        return line
    said = np.zeros(LONGEST, np.uint8)
    text = np.frombuffer(line.encode()[:LONGEST], np.uint8)
    said[: len(text)] = text
    heard: Any = multihost_utils.broadcast_one_to_all(said)
    return bytes(heard).rstrip(b"\0").decode(errors="ignore")


def population_mesh(devices: int) -> Mesh | None:
    """A mesh of so many devices with the one axis of the population, or None where one device has it all.

    Args:
        devices: how many; 0 for all there are.

    Raises:
        InputError: if there are fewer.
    """
    there = jax.devices()
    require(0 <= devices <= len(there), "devices", devices, f"0 to {len(there)}: so many are there")
    require(not (several() and 0 < devices < len(there)), "devices", devices, "0, all, in a run of several processes")
    chosen = there[: devices or len(there)]
    return jax.make_mesh((len(chosen),), (AXIS,), (AxisType.Auto,), devices=chosen) if len(chosen) > 1 else None


def all_max(*numbers: float) -> tuple[float, ...]:
    """The greatest that any process has of each number."""
    if not several():
        return numbers
    found: Any = multihost_utils.process_allgather(np.asarray(numbers, np.float32))
    return tuple(float(number) for number in found.max(axis=0))


def gather(tree: Any) -> Any:
    """A pytree of arrays that may be spread over the devices of all hosts, whole on each of them."""
    if not several():
        return tree
    return multihost_utils.process_allgather(tree, tiled=True)


@contextmanager
def process_folder(folder: Path) -> Iterator[Path]:
    """Where this process keeps the books of the run in `folder`, which process 0 has opened.

    For process 0 that is the folder itself. The others get a copy to write to, whose checkpoints alone are the run's
    own, since each process has a part of them.

    Raises:
        InputError: if the folder is not one that all processes see.
    """
    if not several():
        yield folder
        return
    until = time.monotonic() + SETTLE_S
    while not (there := (folder / "run.json").exists()) and time.monotonic() < until:
        time.sleep(0.1)
    (missing,) = all_max(not there)
    if missing:
        raise InputError(f"not every process sees the run folder {folder} of process 0; give an out that all share")
    if jax.process_index() == 0:
        # The others have read what the run has so far; from now on it changes.
        multihost_utils.sync_global_devices("books")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jevo-") as name, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        own = Path(name)
        for path in folder.iterdir():
            if path.is_file():
                shutil.copy(path, own)
        (own / "checkpoints").symlink_to(folder.resolve() / "checkpoints")
        multihost_utils.sync_global_devices("books")
        silenced = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with redirect_stdout(nowhere):
                yield own
        finally:
            logging.disable(silenced)


def is_peer_lost(error: BaseException) -> bool:
    """Whether an error means that another process is gone: JAX raises what its transport reports, in more than one
    type, with a status in capitals in front."""
    status = re.match(
        r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION): ", str(error)
    )
    return several() and isinstance(error, (RuntimeError, ValueError)) and bool(status)


def exit_process(code: int) -> None:
    """End this process with an exit code, after an error.

    A process that others wait for cannot leave in the ordinary way: it would wait for them at the exit, and they for
    it in their next exchange. So it is gone at once, which they notice.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
