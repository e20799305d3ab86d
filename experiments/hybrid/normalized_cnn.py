"""A small CNN with batch normalisation, for `--network experiments/hybrid/normalized_cnn.py:NormalizedCNN`."""

from itertools import pairwise

import jax
from flax import nnx

from jevo.networks.convolutional import convolve_patches

CHANNELS = (16, 32, 32)


class Convolution(nnx.Module):
    """3x3, of stride 2, over `[channels, height, width, batch]`: as a product, quick on a CPU for many members."""

    def __init__(self, inputs, outputs, rngs):
        self.kernel = nnx.Param(jax.nn.initializers.he_normal()(rngs.params(), (3, 3, inputs, outputs)))

    def __call__(self, x):
        return convolve_patches(x, self.kernel[...], stride=2)


class NormalizedCNN(nnx.Module):
    """Three times a convolution, a batch normalisation and ReLU; then logits of the mean of each channel."""

    def __init__(self, shape, outputs, rngs):
        self.convolutions = nnx.List(Convolution(i, o, rngs) for i, o in pairwise((shape[-1], *CHANNELS)))
        self.norms = nnx.List(nnx.BatchNorm(width, axis=0, momentum=0.9, rngs=rngs) for width in CHANNELS)
        self.out = nnx.Linear(CHANNELS[-1], outputs, rngs=rngs)

    def __call__(self, x):
        x = x.transpose(3, 1, 2, 0)
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.relu(norm(convolve(x)))
        return self.out(x.mean(axis=(1, 2)).T)
