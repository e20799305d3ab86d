"""How an autoencoder is judged: the RMSE of its reconstructions, and a support vector machine on its features."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import population as pop
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.errors import InputError
from jevo.experiments.autoencoder.config import Config
from jevo.experiments.autoencoder.search import layers, zeros
from jevo.experiments.searcher import FRONT
from jevo.networks import Autoencoder, stacked
from jevo.runs import Judged, Outcome, Phases, Run, load_model, save_model
from jevo.training import evaluate, fit_svm, in_rows, predict_classes
from jevo.types import Member, Population

_log = logging.getLogger("jevo")


class Details(NamedTuple):
    """What is known of a champion beside its metrics.

    Attributes:
        svm: reads its features.
        features: of the test examples, float32 `[n, features]`.
        rmse: for each split, the error of images through the first layer, the first two, and so on; through all alone,
            if they were trained at once, as the first ones are no autoencoder then.
        zeros: the share of exact zeros in each layer's matrix.
    """

    svm: Any
    features: np.ndarray
    rmse: dict[str, list[float]]
    zeros: list[float]


@dataclass(frozen=True)
class Competing(Phases):
    """Phases whose champions are judged with machines that are kept in the run's folder.

    Attributes:
        judge: `(champion, folder=None) -> Judged`.
    """

    judge: Callable[..., Judged]

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Run each phase to its end, and judge the champion."""
        return Phases.compete(replace(self, judge=partial(self.judge, folder=run.scratch)), run, earlier)


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


def flat(task: Task, x: np.ndarray) -> np.ndarray:
    """Examples `[n, ...]` as the first layer reads them, float32 `[n, inputs]`: images are in 0..1."""
    return in_rows(partial(_inputs, task), x)


def judging(
    config: Config, tied_layers: Sequence[Autoencoder], task: Task, dataset: Dataset, whole: bool = False
) -> Callable[..., Judged]:
    """Judges autoencoders by the RMSE of their reconstructions, and by a support vector machine on their features.

    Args:
        config: says on how many examples the machine is fitted.
        tied_layers: of the autoencoder.
        task: how its input is normalised.
        dataset: all three sets.
        whole: whether its layers were trained at once.

    Returns:
        `(champion, folder=None) -> Judged`. In the folder the machine is kept as soon as it is fitted.
    """
    splits = {name: getattr(dataset, name) for name in SPLITS}
    depths = [stacked(tied_layers[:depth]) for depth in range(1, len(tied_layers) + 1)][-1 if whole else 0 :]

    def judge(champion: Member, folder: Path | None = None) -> Judged:
        features, rmse = {}, {}
        for name, split in splits.items():
            features[name] = in_rows(lambda rows: depths[-1].encode(champion, _inputs(task, rows)), split.x)
            rmse[name] = [rmse_of(in_rows(_errors(task, part, champion), split.x)) for part in depths]
        read = Reading(features, {name: split.y for name, split in splits.items()}, config.svm_samples, config.seed)
        svm, classes = read.kept(folder) if folder else read.fitted()
        found = svm_settings(svm)
        size = f"{found['samples']:,} train examples"
        _log.info("support vector machine fitted on %s: C %g, gamma %.4g", size, found["C"], found["gamma"])
        metrics = {
            name: {"rmse": rmse[name][-1], "svm_error": float((classes[name] != split.y).mean())}
            for name, split in splits.items()
        }
        details = Details(svm, features["test"], rmse, [float(share) for share in zeros(champion)])
        return Judged(champion, metrics, classes["test"], details)

    return judge


class Reading(NamedTuple):
    """What a support vector machine is to read.

    Attributes:
        features: by split, float32 `[n, features]`.
        labels: by split, int `[n]`.
        samples: how many train examples it is fitted on; 0 for all.
        seed: of their draw.
    """

    features: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    samples: int
    seed: int

    def fitted(self) -> tuple[Any, dict[str, np.ndarray]]:
        """The machine, and the classes that it says by split, int `[n]`."""
        train, validation = ((self.features[name], self.labels[name]) for name in ("train", "validation"))
        svm = fit_svm(train, validation, self.samples, self.seed)
        return svm, {name: predict_classes(svm, x) for name, x in self.features.items()}

    def kept(self, folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
        """The same, which takes minutes: it is done once, and read again when a run goes on.

        A file is known by all that was read for it, so a machine of other features is never taken for it; one that is
        damaged is made anew.
        """
        known = hashlib.sha256(f"{self.samples} {self.seed}".encode())
        for name, x in self.features.items():
            known.update(np.ascontiguousarray(x).tobytes() + np.asarray(self.labels[name], np.int64).tobytes())
        path = folder / f"svm-{known.hexdigest()[:32]}.skops"
        if path.exists():
            try:
                found = load_model(path)
                return found["svm"], {name: found["classes"][name] for name in self.features}
            except (InputError, LookupError, TypeError):
                _log.info("%s is damaged: its machine is fitted again", path)
        svm, classes = self.fitted()
        folder.mkdir(parents=True, exist_ok=True)
        save_model(path, {"svm": svm, "classes": classes})
        return svm, classes


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
