"""Which weights of a network of your own to keep: they are drawn once, none is trained, and only the mask is sought.

Random search over masks, at as many evaluations, runs beside. Both champions are chosen on validation data.
"""

import math
from pathlib import Path

from flax import nnx

from jevo.experiments import masks


class Residual(nnx.Module):
    """Two hidden layers with a residual stream."""

    def __init__(self, shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(math.prod(shape), 64, rngs=rngs)
        self.second = nnx.Linear(64, 64, rngs=rngs)
        self.last = nnx.Linear(64, outputs, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x.reshape(len(x), -1)))
        return self.last(x + nnx.relu(self.second(x)))


config = masks.Config(out=Path("runs/own-masks"), generations=100, validate_every=25)
result = masks.run(config, network=Residual)
for name, found in {"masks": result, "random search": result["control"]}.items():
    accuracy, evaluations = found["metrics"]["test"]["accuracy"], found["budget"]["evaluations"]
    print(f"{name:14} test accuracy {accuracy:.3f} after {evaluations:,} evaluations")
