"""Networks as pairs of pure functions: built in, masked, or from Flax."""

from jevo.networks.autoencoder import Autoencoder as Autoencoder
from jevo.networks.autoencoder import reconstruction as reconstruction
from jevo.networks.autoencoder import stacked as stacked
from jevo.networks.autoencoder import tied as tied
from jevo.networks.build import Activation as Activation
from jevo.networks.build import Weights as Weights
from jevo.networks.build import build as build
from jevo.networks.cnn import cnn as cnn
from jevo.networks.initializers import INITIALIZERS as INITIALIZERS
from jevo.networks.masked import masked as masked
from jevo.networks.mlp import chain_symmetries as chain_symmetries
from jevo.networks.mlp import logistic as logistic
from jevo.networks.mlp import mlp as mlp
from jevo.networks.network import ACTIVATIONS as ACTIVATIONS
from jevo.networks.network import Network as Network
from jevo.networks.network import from_linen as from_linen
from jevo.networks.network import from_nnx as from_nnx
