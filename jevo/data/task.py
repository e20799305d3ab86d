"""A data set on the device, and the normalisation that belongs to it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import Dataset
from jevo.data.targets import learnt
from jevo.data.values import moments


class Examples(NamedTuple):
    """One split on the device: `x [n, ...]` as it came (uint8 images stay uint8), `y int32 [n]`; of a regression `y` is
    float32 `[n, targets]`, standardised."""

    x: jax.Array
    y: jax.Array


class Task(NamedTuple):
    """What a run's programs see of a data set: the examples, and how to read them.

    Attributes:
        train, validation: the examples.
        mean: float32 `[1, ...]`, of each feature over the train examples.
        scale: float32 `[]` for images, the standard deviation of what is left; `[1, features]` for vectors, whose
            features may have units of their own; 1 for a feature that is constant.
    """

    train: Examples
    validation: Examples
    mean: jax.Array
    scale: jax.Array

    def inputs(self, x: jax.Array) -> jax.Array:
        """Examples `[n, ...]` as a network takes them: float32, centred and scaled."""
        return normalize(x, self.mean, self.scale)


def rotating_rows(examples: int, count: int, turn: jax.Array | int, first: int = 0) -> jax.Array:
    """Rows `int32 [count]` of turn number `turn`, when consecutive ones are read of `examples` laid in a ring."""
    return (first + turn % examples * count + jnp.arange(count)) % examples


def normalize(x: jax.Array, mean: jax.Array, scale: jax.Array) -> jax.Array:
    """Examples `[n, ...]` less the mean, over the scale."""
    return (jnp.asarray(x).astype(jnp.float32) - mean) / scale


def normalization_like(shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """A `mean` and a `scale` of the shapes that belong to examples of `shape`, to be filled from a file."""
    return {"mean": jnp.zeros((1, *shape)), "scale": jnp.zeros(() if len(shape) > 1 else (1, *shape))}


def to_device(dataset: Dataset, center: float | None = None, scale: float | None = None) -> Task:
    """The train and validation sets as device arrays. The test set stays behind.

    Args:
        dataset: all three sets.
        center: what to subtract from every feature, in place of its mean.
        scale: what to divide by, in place of the standard deviation.
    """
    mean, deviation = moments(dataset.train.x)
    if mean.ndim == 1:
        deviation = np.where(deviation > 0, deviation, 1.0)[None]
    else:
        deviation = np.sqrt((deviation**2).mean()) or np.float64(1.0)
    if center is not None:
        offset = dataset.values.offset
        mean = np.full_like(mean, center) - (0.0 if offset is None else offset)
    if scale is not None:
        deviation = np.full_like(deviation, scale)
    train, validation = (
        Examples(jnp.asarray(s.x), jnp.asarray(learnt(s.y, dataset.targets)))
        for s in (dataset.train, dataset.validation)
    )
    # What float32 cannot tell from 0 divides nothing.
    deviation = np.where(deviation < np.finfo(np.float32).tiny, 1.0, deviation)
    return Task(train, validation, jnp.asarray(mean[None], jnp.float32), jnp.asarray(deviation, jnp.float32))
