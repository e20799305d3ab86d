"""A small CNN with batch normalisation, for `--network experiments/hybrid/normalized_cnn.py:NormalizedCNN`."""

from itertools import pairwise

from flax import nnx

CHANNELS = (8, 16, 32)


class NormalizedCNN(nnx.Module):
    """Three times a 3x3 convolution, a batch normalisation, ReLU and a 2x2 max-pooling; then logits of the mean of what
    is left of each channel."""

    def __init__(self, shape, outputs, rngs):
        widths = (shape[-1], *CHANNELS)
        convolution = lambda i, o: nnx.Conv(i, o, (3, 3), use_bias=False, rngs=rngs)  # noqa: E731
        self.convolutions = nnx.List(convolution(i, o) for i, o in pairwise(widths))
        self.norms = nnx.List(nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for width in CHANNELS)
        self.out = nnx.Linear(CHANNELS[-1], outputs, rngs=rngs)

    def __call__(self, x):
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.max_pool(nnx.relu(norm(convolve(x))), (2, 2), (2, 2))
        return self.out(x.mean(axis=(1, 2)))
