"""Where a run computes, and with what: a part of its record."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from jevo.runs.config import RunConfig
from jevo.version import __version__


def precision(config: RunConfig, platform: str = "") -> str:
    """The precision of matrix products that a setting means on a platform, by default that of this process."""
    native = {"cpu": "float32", "gpu": "tensorfloat32", "tpu": "bfloat16"}
    return native.get(platform or jax.default_backend(), "float32") if config.precision == "auto" else config.precision


def device() -> dict[str, Any]:
    """Where the run computes: `platform`, `kind`, `count`."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
    }


def versions() -> dict[str, str]:
    """The versions that the result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    own = {"python": platform.python_version(), "jevo": __version__}
    return own | {name: metadata.version(name) for name in packages}
