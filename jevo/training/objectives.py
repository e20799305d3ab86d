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
    return jnp.mean(log_likelihood_by_example(logits, labels))


def log_likelihood_by_example(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The log-probability of each label, in nats: float32 `[n]`."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]


def smoothed_log_likelihood(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """`log_likelihood` of labels of which a share `smoothing` is spread evenly over all classes.

    Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016.
    """
    return (1 - smoothing) * log_likelihood(logits, labels) + smoothing * jnp.mean(jax.nn.log_softmax(logits))


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Minus the mean over the rows of the squared error of the class probabilities, a quarter for each class.

    Of two classes this is (y - p)^2 / 2, whose gradient is the delta rule's.
    """
    wrong = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    return -0.25 * jnp.mean(jnp.sum(wrong**2, axis=-1))


def absolute_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Minus the mean of |1 - p|, `p` being the probability of the label."""
    return jnp.mean(jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=-1)) - 1


def correct_by_example(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 for each row whose largest logit is the label's, else 0: float32 `[n]`."""
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


def scaled_log_likelihood_by_example(logits: jax.Array, labels: jax.Array, scale: float) -> jax.Array:
    """`scaled_log_likelihood`, shared out among the rows `[n]` by what a change of each would do to the mean of all.

    A row's own log-likelihood, at the common scale, would gain of larger logits, which the standard deviation of the
    batch takes back from all rows. So each is charged for what it adds to that deviation: the price is the derivative
    of the mean by the logarithm of the scale, by a difference. Their mean is less than `scaled_log_likelihood`.
    """
    spread, step = jnp.std(logits), 0.05
    unit = jnp.where(spread > 0, spread, 1.0)
    scaled = logits * (scale / unit)
    price = (log_likelihood(scaled * (1 + step), labels) - log_likelihood(scaled * (1 - step), labels)) / (2 * step)
    return log_likelihood_by_example(scaled, labels) - price / 2 * jnp.mean(
        ((logits - jnp.mean(logits)) / unit) ** 2, axis=-1
    )


def scaled_log_likelihood(logits: jax.Array, labels: jax.Array, scale: float) -> jax.Array:
    """`log_likelihood` of logits whose standard deviation over the batch is set to `scale`.

    A mask can't choose the scale of its frozen network's output, so this judges the direction of the logits alone.
    """
    spread = jnp.std(logits)
    # A network whose every unit is dead has no direction: it is scored as a uniform guess.
    return log_likelihood(logits * (scale / jnp.where(spread > 0, spread, 1.0)), labels)
