"""Evolution and training of populations of neural networks, as batched array programs in JAX."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jevo.version import __version__ as __version__

if TYPE_CHECKING:
    from jevo import bits, devices, errors, genetics, networks, population, training
    from jevo.bits import Bits
    from jevo.errors import InputError
    from jevo.genetics import Algorithm, State, genetic
    from jevo.networks import Network

__all__ = [
    "Algorithm",
    "Bits",
    "InputError",
    "Network",
    "State",
    "bits",
    "devices",
    "errors",
    "genetic",
    "genetics",
    "networks",
    "population",
    "training",
]

_HOMES = {
    "Algorithm": "jevo.genetics",
    "Bits": "jevo.bits",
    "InputError": "jevo.errors",
    "Network": "jevo.networks",
    "State": "jevo.genetics",
    "genetic": "jevo.genetics",
}
"""Where each name is that is no module of its own."""


def __getattr__(name: str) -> Any:
    """A part of jevo, imported when it is first asked for (PEP 562): `jevo --version` need not wait for JAX."""
    if name not in __all__:
        raise AttributeError(f"module 'jevo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name) if name in _HOMES else import_module(f"jevo.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
