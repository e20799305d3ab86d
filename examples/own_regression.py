"""Your own data, network and loss: three quantiles of how far diabetes goes in a year, and how often they hold.

Restarts that never mate, at as many gradient steps, train beside. Losses are of targets standardised by the train rows.
"""

from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from sklearn.datasets import load_diabetes

from jevo import data
from jevo.experiments import champion, hybrid
from jevo.training import Goal

SHARES = jnp.array([0.1, 0.5, 0.9])


def pinball(outputs, targets):  # [n, 3] and [n, 1] -> [n]
    error = targets - outputs
    return jnp.mean(jnp.maximum(SHARES * error, (SHARES - 1) * error), axis=-1)


def inside(outputs, targets):  # What lies between the outer two quantiles: .8 is meant.
    return (outputs[:, 0] <= targets[:, 0]) & (targets[:, 0] <= outputs[:, 2])


def network(shape, outputs, rngs):
    return nnx.Sequential(nnx.Linear(shape[0], 16, rngs=rngs), nnx.tanh, nnx.Linear(16, outputs, rngs=rngs))


dataset = data.from_arrays(*load_diabetes(return_X_y=True), name="diabetes", regression=True)
goal = Goal(pinball, {"inside": inside}, outputs=3, estimates=(1,))  # The second output is the estimate.
config = hybrid.Config(out=Path("runs/own-regression"), cycles=8, steps=30, legs=1, lr=3e-3)
hybrid.run(config, dataset=dataset, network=network, goal=goal)
answer, _ = champion("runs/own-regression", network=network)
print("estimated", answer(dataset.test.x[:5]).values[:, 0].round())
print("measured ", dataset.test.y[:5, 0])
