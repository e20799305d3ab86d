"""Who competes in the autoencoder experiment, how a champion is judged, and how it answers afterwards."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jevo import population as pop
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task, to_device
from jevo.devices import members_at_once
from jevo.errors import InputError, require
from jevo.experiments import elsewhere
from jevo.experiments.autoencoder.config import Config, widths
from jevo.experiments.autoencoder.search import Data, Method, PhasePlan, layers, phase, zeros
from jevo.experiments.searcher import FRONT
from jevo.genetics import Search
from jevo.networks import Autoencoder, stacked
from jevo.runs import (
    Answers,
    Champion,
    Contest,
    Judged,
    Phase,
    Phases,
    Portable,
    Saved,
    Stage,
    load_model,
    metrics_file,
    without_population,
)
from jevo.runs.own import Given
from jevo.training import evaluate, fit_svm, in_rows, predict_classes
from jevo.types import Member, Population

_log = logging.getLogger("jevo")

RIVALS: dict[str, tuple[Method, ...]] = {
    "ga": ("random-search",),
    "perturbation": ("random-search",),
    "ga-sgd": ("sgd-layerwise", "sgd-joint"),
    "sgd-layerwise": ("sgd-joint",),
    "sgd-joint": ("sgd-layerwise",),
}
"""With whom each method competes: its control first, then the references."""


class Details(NamedTuple):
    """What is known of a champion beside its metrics.

    Attributes:
        svm: reads its features.
        features: of the test examples, float32 `[n, features]`.
        rmse: for each split, the error of images through the first layer, the first two, and so on.
        zeros: the share of exact zeros in each layer's matrix.
    """

    svm: Any
    features: np.ndarray
    rmse: dict[str, list[float]]
    zeros: list[float]


def phases(config: Config, tied_layers: Sequence[Autoencoder], method: Method) -> list[PhasePlan]:
    """The phases of one method, one for each layer; or one phase for all layers, which is as long as all of them."""
    whole = config.at_once(method)
    parts = [stacked(tied_layers)] if whole else tied_layers
    key = jax.random.fold_in(jax.random.key(config.seed), get_args(Method).index(method))
    generations = config.generations * (len(tied_layers) if whole else 1)
    return [
        phase(config, method, part, stacked(tied_layers[:depth]), generations, jax.random.fold_in(key, depth))
        for depth, part in enumerate(parts)
    ]


def contest(config: Config, dataset: Dataset, given: Given) -> Contest:
    """The method, its control, and its references, each with phases of its own."""
    pictures = dataset.train.x.ndim == 4
    require(config.output == "linear" or pictures, "output", config.output, "linear, where examples are not images")
    require(
        given.criterion.classifies, "goal", config.goal,
        "classification: an autoencoder makes its examples again, and a support vector machine tells their classes",
    )  # fmt: skip
    require(len(dataset.classes) > 1, "data", config.data, "examples of two classes or more")
    shape = widths(config, int(np.prod(dataset.train.x.shape[1:])))
    black, white = dataset.values.ends
    task = to_device(dataset, *((black, (white - black) or 1.0) if pictures else ()))
    tied_layers = layers(config, shape)
    images = {name: flat(task, getattr(dataset, name).x) for name in ("train", "validation")}
    judge = judging(config, tied_layers, task, dataset)
    # Large layers with their moments fill the cache one at a time.
    chunk = members_at_once(config.chunk, on_cpu=8 if config.method in ("ga", "perturbation") else 1)

    def data(depth: int, kept: Sequence[Search]) -> Data:
        """What phase number `depth` reads: the features of the layers below, computed once."""
        below, frozen = stacked(tied_layers[:depth]), joined(kept)

        def rows(x: np.ndarray) -> tuple[jax.Array, ...]:
            features = jnp.asarray(in_rows(lambda rows: below.encode(frozen, rows), x) if depth else x)
            return (features, jnp.asarray(x)) if depth and config.target == "image" else (features,)

        return Data(rows(images["train"]), rows(images["validation"]), frozen)

    def contestant(method: Method) -> Phases:
        found = phases(config, tied_layers, method)
        stages = [
            Stage(
                f"{method} layer {depth + 1} of {len(found)}" if len(found) > 1 else method,
                each.programs,
                each.generations,
                (each.effort.gradient_steps, "steps") if each.effort.steps else (each.effort.members, "eval"),
                chunk=min(chunk, each.effort.members),
                metrics=metrics_file(method, config.method),
                after=depth * each.generations,
                advice="try a smaller lr",
            )
            for depth, each in enumerate(found)
        ]
        return Phases(
            [Phase(stage, partial(data, depth), without_population) for depth, stage in enumerate(stages)],
            judge,
            evaluations=sum(each.effort.members * (each.generations + 1) for each in found),
            gradient_steps=sum(each.effort.gradient_steps * each.generations for each in found),
            champions=lambda kept: [kept[0].champion if config.at_once(method) else joined(kept)],
        )

    methods = (config.method, *RIVALS[config.method])
    return Contest(dataset, task, {method: contestant(method) for method in methods})


def by_error(config: Config, shape: tuple[int, ...], task: Task, dataset: Dataset) -> Callable[[Population], list[Any]]:
    """Judges whole autoencoders of a front by the RMSE of their reconstructions."""
    whole = stacked(layers(config, shape))

    def judge(members: Population) -> list[dict[str, dict[str, float]]]:
        def errors(rows: jax.Array) -> jax.Array:
            of_each = evaluate(lambda params: _errors(task, whole, params)(rows), members, config.chunk or FRONT)
            return jnp.swapaxes(of_each, 0, 1)

        found = {name: in_rows(errors, getattr(dataset, name).x) for name in SPLITS}
        return [{name: {"rmse": rmse_of(of[:, i])} for name, of in found.items()} for i in range(pop.size(members))]

    return judge


def joined(kept: Sequence[Search]) -> Member:
    """The champions of the phases as params of one stack."""
    return {f"layer_{depth}": search.champion for depth, search in enumerate(kept)}


def flat(task: Task, x: np.ndarray) -> np.ndarray:
    """Examples `[n, ...]` as the first layer reads them, float32 `[n, inputs]`: images are in 0..1."""
    return in_rows(partial(_inputs, task), x)


def judging(
    config: Config, tied_layers: Sequence[Autoencoder], task: Task, dataset: Dataset
) -> Callable[[Member], Judged]:
    """Judges autoencoders by the RMSE of their reconstructions, and by a support vector machine on their features."""
    splits = {name: getattr(dataset, name) for name in SPLITS}
    depths = [stacked(tied_layers[:depth]) for depth in range(1, len(tied_layers) + 1)]

    def judge(champion: Member) -> Judged:
        features, rmse = {}, {}
        for name, split in splits.items():
            features[name] = in_rows(lambda rows: depths[-1].encode(champion, _inputs(task, rows)), split.x)
            rmse[name] = [rmse_of(in_rows(_errors(task, part, champion), split.x)) for part in depths]
        train, validation = ((features[name], splits[name].y) for name in ("train", "validation"))
        svm = fit_svm(train, validation, config.svm_samples, config.seed)
        found = svm_settings(svm)
        size = f"{found['samples']:,} train examples"
        _log.info("support vector machine fitted on %s: C %g, gamma %.4g", size, found["C"], found["gamma"])
        classes = {name: predict_classes(svm, features[name]) for name in SPLITS}
        metrics = {
            name: {"rmse": rmse[name][-1], "svm_error": float((classes[name] != split.y).mean())}
            for name, split in splits.items()
        }
        details = Details(svm, features["test"], rmse, [float(share) for share in zeros(champion)])
        return Judged(champion, metrics, classes["test"], details)

    return judge


def _inputs(task: Task, x: jax.Array) -> jax.Array:
    return task.inputs(x).reshape(x.shape[0], -1)


def _errors(task: Task, autoencoder: Autoencoder, params: Member) -> Callable[[jax.Array], jax.Array]:
    """The mean squared error of each example."""

    def errors(rows: jax.Array) -> jax.Array:
        x = _inputs(task, rows)
        return jnp.mean((autoencoder.decode(params, autoencoder.encode(params, x)) - x) ** 2, axis=1)

    return errors


def svm_settings(svm: Any) -> dict[str, Any]:
    """The settings of a support vector machine that `result.json` holds."""
    svc = svm[-1]
    return {"C": svc.C, "gamma": svc.gamma, "samples": int(svc.shape_fit_[0]), "vectors": len(svc.support_)}


def rmse_of(squared: np.ndarray) -> float:
    """The root of the mean of squared errors, summed in float64."""
    return float(np.sqrt(np.mean(squared, dtype=np.float64)))


def answers(saved: Saved) -> Champion:
    """How the champion of a finished run answers."""
    autoencoder = stacked(layers(saved.config, tuple(saved.result["shape"])))
    found, svm = saved.arrays(autoencoder.init), load_model(saved.folder / "svm.skops")
    inputs = jax.ShapeDtypeStruct((1, math.prod(saved.shape)), jnp.float32)
    code = jax.eval_shape(autoencoder.encode, found.params, inputs).shape[1]
    fits = getattr(svm, "n_features_in_", 0) == code and set(svm.classes_) <= set(range(saved.classes))
    if not fits:
        raise InputError(f"{saved.folder / 'svm.skops'} is of another run; run the experiment again with fresh")

    def encode(x: jax.Array) -> jax.Array:
        return autoencoder.encode(found.params, found.inputs(x).reshape(x.shape[0], -1))

    def restore(features: jax.Array) -> jax.Array:
        return autoencoder.decode(found.params, features).reshape(-1, *saved.shape) * found.scale + found.mean

    def answer(x: np.ndarray) -> Answers:
        features = in_rows(encode, x)
        # The machine was fitted on the champion's features: of others it would say anything.
        classes = predict_classes(svm, features) if saved.front is None else None
        return Answers(classes, reconstructions=in_rows(restore, features))

    return answer


def portable(saved: Saved) -> Portable:
    """The champion as its params; the machine that reads its features stays behind, in `svm.skops`."""
    config, shape = saved.config, tuple(saved.result["shape"])
    found = saved.arrays(stacked(layers(config, shape)).init)
    depth = len(shape) - 1
    names = config.activation * (1 if len(config.activation) > 1 else depth)
    code = elsewhere.autoencoder(saved, names, config.output, config.bias)
    return saved.portable(found, found.params, code)
