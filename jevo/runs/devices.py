"""The devices that a run's population is spread over."""

import jax
from jax.sharding import AxisType, Mesh

from jevo.population import AXIS
from jevo.runs.config import require
from jevo.runs.processes import several


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
