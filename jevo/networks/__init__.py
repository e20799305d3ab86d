"""Networks as pairs of pure functions: built in, masked, or from Flax."""

from jevo.networks.autoencoder import Autoencoder, reconstruction, stacked, tied
from jevo.networks.builtin import Activation, Weights, build
from jevo.networks.convolutional import cnn
from jevo.networks.depth import depths
from jevo.networks.initializers import INITIALIZERS
from jevo.networks.masks import MaskKind, masked, straight_through
from jevo.networks.network import ACTIVATIONS, Network, from_linen, from_nnx, to_nnx
from jevo.networks.perceptron import logistic, mlp
from jevo.networks.renumbering import chain_symmetries, symmetries

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "Activation",
    "Autoencoder",
    "MaskKind",
    "Network",
    "Weights",
    "build",
    "chain_symmetries",
    "cnn",
    "depths",
    "from_linen",
    "from_nnx",
    "logistic",
    "masked",
    "mlp",
    "reconstruction",
    "stacked",
    "straight_through",
    "symmetries",
    "tied",
    "to_nnx",
]
