"""Who competes in the autoencoder experiment, and how its champion answers afterwards."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import Dataset
from jevo.data.task import to_device
from jevo.devices import members_at_once
from jevo.errors import InputError, require
from jevo.experiments import elsewhere
from jevo.experiments.autoencoder.config import FINE_TUNED, PRUNED, Config, rival_of, widths
from jevo.experiments.autoencoder.judging import Competing, flat, judging
from jevo.experiments.autoencoder.search import Data, Method, PhasePlan, layers, phase
from jevo.experiments.autoencoder.sparse import FineTuned, Pruned
from jevo.genetics import Search, rounding
from jevo.networks import Autoencoder, stacked
from jevo.runs import (
    Answers,
    Champion,
    Contest,
    Contestant,
    Phase,
    Portable,
    Saved,
    Stage,
    load_model,
    metrics_file,
    without_population,
)
from jevo.runs.own import Given
from jevo.training import in_rows, predict_classes
from jevo.types import Member


def phases(config: Config, tied_layers: Sequence[Autoencoder], name: str) -> list[PhasePlan]:
    """The phases of one contestant, one for each layer; or one for all layers, which is as long as all of them."""
    whole, fine_tuned = config.at_once(name), name.endswith(FINE_TUNED)
    parts = [stacked(tied_layers)] if whole else tied_layers
    method: Any = "fine-tuning" if fine_tuned else name
    key = jax.random.fold_in(jax.random.key(config.seed), get_args(Method).index(method))
    generations = (config.fine_tuning if fine_tuned else config.generations) * (len(tied_layers) if whole else 1)
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
    # Large layers with their moments fill the cache one at a time.
    chunk = members_at_once(config.chunk, on_cpu=8 if config.method in ("ga", "perturbation") else 1)

    def data(depth: int, begun: Any, kept: Sequence[Search]) -> Data:
        """What phase number `depth` reads: the features of the layers below, computed once."""
        below, frozen = stacked(tied_layers[:depth]), joined(preferred(config, kept)[:depth])

        def rows(x: np.ndarray) -> tuple[jax.Array, ...]:
            features = jnp.asarray(in_rows(lambda rows: below.encode(frozen, rows), x) if depth else x)
            return (features, jnp.asarray(x)) if depth and config.target == "image" else (features,)

        return Data(rows(images["train"]), rows(images["validation"]), frozen, () if begun is None else begun)

    def learning(name: str, begun: Any = None) -> Competing:
        """Who searches, each phase at each learning rate; `begun` is a champion to go on from."""
        whole, found = config.at_once(name), []
        for rate in config.rates:
            found.append(phases(dataclasses.replace(config, lr=rate, tune_lr=()), tied_layers, name))
        ways = []
        for depth, plans in enumerate(zip(*found, strict=True)):
            first = begun if begun is None or whole else begun[f"layer_{depth}"]
            for rate, plan in zip(config.rates, plans, strict=True):
                layer = f" layer {depth + 1} of {len(found[0])}" if len(found[0]) > 1 else ""
                stage = Stage(
                    f"{name}{layer}{f' lr {rate:g}' if config.tune_lr else ''}",
                    plan.programs,
                    plan.generations,
                    (plan.effort.gradient_steps, "steps") if plan.effort.steps else (plan.effort.members, "eval"),
                    chunk=min(chunk, plan.effort.members),
                    metrics=metrics_file(name, config.method),
                    after=len(ways) * plan.generations,
                    advice="try a smaller lr",
                )
                ways.append(Phase(stage, partial(data, depth, first), without_population))
        plans = [plan for each in found for plan in each]
        return Competing(
            ways,
            judging(config, tied_layers, task, dataset, whole),
            evaluations=sum(each.effort.members * (each.generations + 1) for each in plans),
            gradient_steps=sum(each.effort.gradient_steps * each.generations for each in plans),
            champions=lambda kept: [joined(preferred(config, kept), whole)],
        )

    def contestant(name: str) -> Contestant:
        if rival := rival_of(name, FINE_TUNED):
            return FineTuned(rival, partial(learning, name), stacked(tied_layers).init)
        if rival := rival_of(name, PRUNED):
            return Pruned(rival, config.method, judging(config, tied_layers, task, dataset, config.at_once(name)))
        return learning(name)

    return Contest(dataset, task, {name: contestant(name) for name in config.contestants})


def joined(kept: Sequence[Search], whole: bool = False) -> Member:
    """The champions of the phases as params of one stack; the only phase's, where it was of the whole."""
    return kept[0].champion if whole else {f"layer_{depth}": search.champion for depth, search in enumerate(kept)}


def preferred(config: Config, kept: Sequence[Search]) -> list[Search]:
    """What was kept of each phase at the learning rate that validation data prefer, of those phases that are done."""
    return [kept[i] for i in chosen(config, kept)]


def chosen(config: Config, kept: Sequence[Search]) -> list[int]:
    """Which of `kept` are preferred: of rates that are level up to rounding, the first."""
    rates, found = len(config.rates), []
    if rates == 1:
        return list(range(len(kept)))
    for first in range(0, len(kept) - rates + 1, rates):
        best = first
        for i in range(first + 1, first + rates):
            new, old = kept[i].validation, kept[best].validation
            best = i if new > old + rounding(old) else best
        found.append(best)
    return found


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
