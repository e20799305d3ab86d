"""A tied autoencoder, evolved one weight matrix at a time; a support vector machine reads its features.

    python -m jevo.experiments.autoencoder --data mnist

Phase k searches for layer k above the frozen layers below it. The same autoencoder by gradient alone, layer by layer
and all layers at once, is trained at as many gradient steps in the same command. The `faithful` preset is the recipe as
published (genetic-autoencoder, after David and Greental, "Genetic algorithms for evolving deep neural networks", 2014),
the default is jevo's own.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import SPLITS, Dataset, load
from jevo.data.task import Task, no_normalization, normalize, to_device
from jevo.experiments import autoencoder_report
from jevo.experiments.autoencoder_config import Config, widths
from jevo.experiments.autoencoder_search import Data, Programs, Way, layers, phase, zeros
from jevo.genetics import Search
from jevo.networks import Autoencoder, stacked
from jevo.runs import contest
from jevo.runs.checkpoint import load_arrays, load_model, save_arrays, save_model
from jevo.runs.command import main
from jevo.runs.config import require
from jevo.runs.contest import Answers, Champion, Contestant, Judged, champion_of, compete, verdict
from jevo.runs.loop import Stage
from jevo.runs.record import described, open_run, precision
from jevo.training import fit_svm, in_rows, predict_classes
from jevo.types import Member

_log = logging.getLogger("jevo")

RIVALS: dict[str, tuple[Way, ...]] = {
    "ga": ("random-search",),
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


def programs(config: Config, tied_layers: Sequence[Autoencoder], way: Way) -> list[Programs]:
    """The phases of one way, one for each layer; or one phase for all layers, which is as long as all of them."""
    whole = way == "sgd-joint"
    parts = [stacked(tied_layers)] if whole else tied_layers
    key = jax.random.fold_in(jax.random.key(config.seed), get_args(Way).index(way))
    return [
        phase(
            config,
            way,
            part,
            stacked(tied_layers[:depth]),
            config.generations * (len(tied_layers) if whole else 1),
            jax.random.fold_in(key, depth),
        )
        for depth, part in enumerate(parts)
    ]


def contestants(config: Config, shape: tuple[int, ...], task: Task, dataset: Dataset) -> dict[str, Contestant]:
    """The method, its control, and its references, each with phases of its own."""
    tied_layers = layers(config, shape)
    images = {name: flat(task, getattr(dataset, name).x) for name in ("train", "validation")}
    judge = judging(config, tied_layers, task, dataset)

    def data(depth: int, kept: Sequence[Search]) -> Data:
        """What phase number `depth` reads: the features of the layers below, computed once."""
        below, frozen = stacked(tied_layers[:depth]), joined(kept)

        def rows(x: np.ndarray) -> tuple[jax.Array, ...]:
            features = jnp.asarray(in_rows(lambda rows: below.encode(frozen, rows), x) if depth else x)
            return (features, jnp.asarray(x)) if depth and config.target == "image" else (features,)

        return Data(rows(images["train"]), rows(images["validation"]), frozen)

    def contestant(way: Way) -> Contestant:
        found = programs(config, tied_layers, way)
        stages = [
            Stage(
                f"{way} layer {depth + 1} of {len(found)}" if len(found) > 1 else way,
                each.start,
                each.step,
                each.generations,
                (each.gradient_steps, "steps") if each.gradient_steps else (each.evaluations, "eval"),
                autoencoder_report.metrics_file(config.method, way),
                after=depth * each.generations,
                advice="try a smaller --lr",
            )
            for depth, each in enumerate(found)
        ]
        return Contestant(
            [contest.Phase(stage, partial(data, depth), champion_of) for depth, stage in enumerate(stages)],
            judge,
            sum(each.evaluations * (each.generations + 1) for each in found),
            sum(each.gradient_steps * each.generations for each in found),
            lambda kept: [kept[0].champion if way == "sgd-joint" else joined(kept)],
        )

    return {way: contestant(way) for way in (config.method, *RIVALS[config.method])}


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
            rmse[name] = [autoencoder_report.rmse(in_rows(_errors(task, part, champion), split.x)) for part in depths]
        train, validation = ((features[name], splits[name].y) for name in ("train", "validation"))
        svm = fit_svm(train, validation, config.svm_samples, config.seed)
        found = autoencoder_report.machine(svm)
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


def run(config: Config) -> dict[str, Any]:
    """The whole experiment, into its folder: what `result.json` holds.

    Raises:
        InputError: for data or settings that cannot be used.
        Interrupted: when asked to stop; the same config goes on.
    """
    with open_run("autoencoder", config) as record:
        if done := record.result():
            return done
        dataset = load(config.data, config.data_dir)
        pictures = dataset.train.x.ndim == 4
        require(config.output == "linear" or pictures, "output", config.output, "linear, where examples are not images")
        require(len(dataset.classes) > 1, "data", config.data, "examples of two classes or more")
        record.announce(dataset)
        shape = widths(config, int(np.prod(dataset.train.x.shape[1:])))
        with jax.default_matmul_precision(precision(config)):
            task = to_device(dataset, *((0.0, dataset.top) if pictures else ()))
            rivals = contestants(config, shape, task, dataset)
            outcomes = {
                way: compete(record.folder, contestant, config.checkpoint_every, config.devices)
                for way, contestant in rivals.items()
            }
            own = outcomes[config.method]
            judged = own.judged[0]
            save_arrays(record.folder / "champion", {"params": judged.champion, "mean": task.mean, "scale": task.scale})
            save_model(record.folder / "svm.skops", judged.details.svm)
            result = {
                **record.describe(dataset),
                **verdict(config.method, RIVALS[config.method][0], outcomes, config.seed),
                "shape": list(shape),
                "champion": {
                    "generation": [int(search.found) for search in own.kept],
                    "validation_rmse": [1 / float(search.validation) for search in own.kept],
                },
                "rmse_by_layer": {way: outcome.judged[0].details.rmse for way, outcome in outcomes.items()},
                "zeros": {way: outcome.judged[0].details.zeros for way, outcome in outcomes.items()},
                "svm": {way: autoencoder_report.machine(o.judged[0].details.svm) for way, o in outcomes.items()},
                "mean_image_rmse": autoencoder_report.mean_image(task, dataset),
            }
            found = layers(config, shape)
            firsts = [each.first() for each in programs(config, found, config.method)]
            autoencoder_report.write(record, result, dataset, task, found, outcomes, firsts)
        return result


def champion(folder: Path, result: dict[str, Any]) -> Champion:
    """The champion of a finished run."""
    config, shape, _ = described(Config, folder, result)
    autoencoder = stacked(layers(config, tuple(result["shape"])))
    like = jax.eval_shape(lambda: {"params": autoencoder.init(jax.random.key(0)), **no_normalization(shape)})
    saved, svm = load_arrays(folder / "champion", like), load_model(folder / "svm.skops")
    params, mean, scale = saved["params"], saved["mean"], saved["scale"]

    def encode(x: jax.Array) -> jax.Array:
        return autoencoder.encode(params, normalize(x, mean, scale).reshape(x.shape[0], -1))

    def restore(features: jax.Array) -> jax.Array:
        return autoencoder.decode(params, features).reshape(-1, *shape) * scale + mean

    def answer(x: np.ndarray) -> Answers:
        features = in_rows(encode, x)
        return Answers(predict_classes(svm, features), reconstructions=in_rows(restore, features))

    return answer


if __name__ == "__main__":
    main(Config, run)
