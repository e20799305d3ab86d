"""What a network's output is worth, for one batch: `(logits [batch, classes], labels int [batch]) -> float32 []`.

All are higher-is-better, so each can be a fitness; a loss is the negative of one.
"""

import jax
import jax.numpy as jnp


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of rows whose largest logit is the label's."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels, dtype=jnp.float32)


def log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean log-probability of the labels, in nats: minus the cross-entropy."""
    shifted = jax.nn.log_softmax(logits)
    return jnp.mean(jnp.take_along_axis(shifted, labels[:, None], axis=-1))


def scaled_log_likelihood(logits: jax.Array, labels: jax.Array, scale: float) -> jax.Array:
    """`log_likelihood` of logits whose standard deviation over the batch is set to `scale`.

    A mask can't choose the scale of its frozen network's output, so this judges the direction of the logits alone.
    """
    spread = jnp.std(logits)
    # A network whose every unit is dead has no direction: it is scored as a uniform guess.
    return log_likelihood(logits * (scale / jnp.where(spread > 0, spread, 1.0)), labels)
