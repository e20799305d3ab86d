"""Evolution and training of populations of neural networks, as batched array programs in JAX."""

from jevo import bits, devices, errors, genetics, networks, population, training
from jevo.bits import Bits
from jevo.errors import InputError
from jevo.genetics import Algorithm, State, genetic
from jevo.networks import Network
from jevo.version import __version__ as __version__

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
