"""What a network's outputs are for: how a task scores them, from the loss that is descended to the metrics of a result.

A task is a classification, a regression, or one of these with a loss and metrics of the user's own (a `Goal`). Whatever
it is, the rest of the engine sees a `Criterion`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import Dataset
from jevo.data.targets import Targets, learnt
from jevo.errors import InputError, shortened
from jevo.training.objectives import accuracy, log_likelihood_by_example
from jevo.training.scoring import measure as measure_classes

Loss = Callable[[jax.Array, jax.Array], jax.Array]
"""`(outputs [n, k], targets) -> float32 [n]`, lower is better, one for each example. `targets` are int32 `[n]`, the
indices of classes; or, of a regression, float32 `[n, targets]`, standardised by the train examples."""


class Goal(NamedTuple):
    """A task of one's own: what networks are to make small, and what is said of them.

    Attributes:
        loss: of each example.
        metrics: what else to say of a network, by name: functions like `loss`, whose means over a split are given.
        outputs: that a network makes of an example; None for one for each class, or target.
        kind: what the labels are: real numbers, or classes.
        estimates: of a regression, which outputs are the estimates of its targets, standardised as they are; None for
            the first ones. Its usual metrics (r2, rmse, mae) and `predict` are of these.

    >>> def pinball(outputs, targets, share=0.9):
    ...     error = (targets - outputs)[:, 0]
    ...     return jnp.maximum(share * error, (share - 1) * error)
    >>> goal = Goal(pinball, {"below": lambda outputs, targets: (targets < outputs)[:, 0]})
    """

    loss: Loss
    metrics: Mapping[str, Loss] = {}
    outputs: int | None = None
    kind: Literal["regression", "classification"] = "regression"
    estimates: tuple[int, ...] | None = None


class Criterion(NamedTuple):
    """How outputs are scored.

    Attributes:
        name: what it is: `classification`, `regression`, or `own`.
        outputs: that a network makes of an example.
        reward: `(outputs [n, k], targets) -> float32 [n]`, minus the loss of each example.
        score: `(outputs, targets) -> float32 []`, higher is better: what validation data choose a champion by.
        scored: what that is called; it is a metric of every result.
        finish: `outputs -> float32 [n, k]`, what a network says in the end: class probabilities, or as they are.
        measure: `(what it says [n, k], labels as the data set has them) -> metrics`, on the host.
        estimates: which of the outputs are a class's logit, or the estimate of a target.
    """

    name: str
    outputs: int
    reward: Loss
    score: Callable[[jax.Array, jax.Array], jax.Array]
    scored: str
    finish: Callable[[jax.Array], jax.Array]
    measure: Callable[[np.ndarray, np.ndarray], dict[str, float]]
    estimates: tuple[int, ...]

    @property
    def classifies(self) -> bool:
        """Whether fitness is that of classes, as every published recipe here has it."""
        return self.name == "classification"


def classification(classes: int) -> Criterion:
    """Networks give the logits of classes: the loss is the cross-entropy in nats, the score is the accuracy."""
    return Criterion(
        "classification",
        classes,
        log_likelihood_by_example,
        accuracy,
        "accuracy",
        jax.nn.softmax,
        measure_classes,
        tuple(range(classes)),
    )


def regression(targets: Targets) -> Criterion:
    """Networks give standardised targets: the loss is their mean squared error, the score is r2 on the same scale."""
    return Criterion(
        "regression",
        len(targets.names),
        lambda outputs, y: -jnp.mean((outputs - y) ** 2, axis=-1),
        r2,
        "r2",
        lambda outputs: outputs,
        lambda outputs, y: measure_targets(targets, outputs, y),
        tuple(range(len(targets.names))),
    )


def r2(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The share of the targets' variance that outputs `[n, targets]` explain, mean over the targets: float32 `[]`.

    Of a target that is the same for all of these examples it is 1 where the estimates are right, else 0.
    """
    wrong = jnp.mean((outputs - targets) ** 2, axis=0)
    # The variance of equal numbers is not zero once they are rounded.
    varies = jnp.max(targets, axis=0) > jnp.min(targets, axis=0)
    share = 1 - wrong / jnp.where(varies, jnp.var(targets, axis=0), 1.0)
    return jnp.mean(jnp.where(varies, share, (wrong == 0).astype(jnp.float32)))


def measure_targets(targets: Targets, outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What standardised estimates `[n, targets]` are worth against targets `[n, targets]` of the source.

    Returns:
        `r2`; `loss`, the mean squared error on the standardised scale; and `rmse` and `mae` in units of the target, of
        several targets one for each.
    """
    error = targets.source(outputs) - y
    wrong, varies = (error**2).mean(axis=0), y.max(axis=0) > y.min(axis=0)
    share = np.where(varies, 1 - wrong / np.where(varies, y.var(axis=0), 1.0), wrong == 0)
    found = {"r2": float(share.mean()), "loss": float((wrong / np.array(targets.scale) ** 2).mean())}
    for i, name in enumerate(targets.names):
        of = f" {name}" if len(targets.names) > 1 else ""
        found |= {f"rmse{of}": float(np.sqrt(wrong[i])), f"mae{of}": float(np.abs(error[:, i]).mean())}
    return found


def own(goal: Goal, classes: int, targets: Targets | None) -> Criterion:
    """A task of the user's own, on data with so many classes, or with targets.

    Raises:
        InputError: if the loss or a metric does not give a number for each example.
    """
    if (goal.kind == "regression") != (targets is not None):
        raise InputError(
            f"the goal is of kind {goal.kind}, but the data {'have' if targets else 'are no'} real targets"
        )
    usual = classification(classes) if targets is None else regression(targets)
    least, count = usual.outputs, goal.outputs or usual.outputs
    kind = "targets" if targets else "classes"
    if count < least:
        raise InputError(f"the goal has {count} outputs, but there are {least} {kind}")
    estimates = usual.estimates if goal.estimates is None else tuple(goal.estimates)
    if len(set(estimates)) < least or len(estimates) != least or not all(0 <= i < count for i in estimates):
        raise InputError(f"the goal's estimates are {estimates}, but take one of the outputs 0 to {count - 1} for each "
                         f"of the {least} {kind}")  # fmt: skip
    # Of several targets the usual ones have a target's name behind their own.
    if taken := sorted(n for n in goal.metrics if n.partition(" ")[0] in ("loss", "accuracy", "r2", "rmse", "mae")):
        raise InputError(f"the goal has a metric {taken[0]!r}, a name that results have already; call it otherwise")
    example = jax.ShapeDtypeStruct((3, count), jnp.float32), jax.eval_shape(lambda: _labels(usual, targets))
    for name, function in {"loss": goal.loss, **goal.metrics}.items():
        found = _shape_of(name, function, *example)
        if found != (3,):
            raise InputError(
                f"the goal's {name} gives {list(found)} for 3 examples, but takes one number for each: [3]; "
                "leave the mean over the examples out"
            )

    def mean(function: Loss, outputs: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(jnp.asarray(function(outputs, y), jnp.float32))

    def measure(outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
        labels = jnp.asarray(learnt(y, targets))
        standard = usual.measure(np.asarray(usual.finish(jnp.asarray(outputs[:, list(estimates)]))), y)
        own = {name: float(mean(of, jnp.asarray(outputs), labels)) for name, of in goal.metrics.items()}
        return {"loss": float(mean(goal.loss, jnp.asarray(outputs), labels)), **own} | {
            name: value for name, value in standard.items() if name != "loss"
        }

    return Criterion(
        "own",
        count,
        lambda outputs, y: -jnp.asarray(goal.loss(outputs, y), jnp.float32),
        lambda outputs, y: -mean(goal.loss, outputs, y),
        "loss",
        lambda outputs: outputs,
        measure,
        estimates,
    )


def criterion_of(name: str, goal: Goal | None, dataset: Dataset) -> Criterion:
    """How outputs are scored.

    Args:
        name: of the goal: `classification` or `regression`, if it is not the user's own.
        goal: the user's own.
        dataset: all three sets.

    Raises:
        InputError: if the data are not of its kind.
    """
    classes, targets = len(dataset.classes), dataset.targets
    if goal is not None:
        return own(goal, classes, targets)
    if (name == "regression") != (targets is not None):
        there = "real targets" if targets else "classes"
        raise InputError(f"the goal is {name}, but {dataset.name} has {there}")
    return classification(classes) if targets is None else regression(targets)


def _labels(usual: Criterion, targets: Targets | None) -> jax.Array:
    return jnp.zeros(3, jnp.int32) if targets is None else jnp.zeros((3, usual.outputs))


def _shape_of(name: str, function: Loss, outputs: Any, labels: Any) -> tuple[int, ...]:
    """Of what the user's function gives."""
    try:
        found = jax.eval_shape(function, outputs, labels)
    except Exception as error:  # Whatever the user's code raises.
        reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 300)
        raise InputError(f"the goal's {name} fails on outputs {list(outputs.shape)}: {reason}") from error
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise InputError(
            f"the goal's {name} gives {type(found).__name__}, but takes an array, a number for each example"
        )
    return found.shape
