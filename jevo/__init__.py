"""Evolution and training of populations of neural networks, as batched array programs in JAX."""

from jevo import bits as bits
from jevo import genetics as genetics
from jevo import networks as networks
from jevo import population as population
from jevo import training as training
from jevo.bits import Bits as Bits
from jevo.genetics import GeneticAlgorithm as GeneticAlgorithm
from jevo.genetics import State as State
from jevo.genetics import genetic as genetic
from jevo.networks import Network as Network
from jevo.types import InputError as InputError
