"""The pictures and the report of an autoencoder experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.networks import Autoencoder, reconstruction, stacked
from jevo.runs import report
from jevo.runs.contest import Outcome
from jevo.runs.record import Run, read_metrics
from jevo.runs.report import Panel
from jevo.training import in_rows
from jevo.types import Member

PICTURES = 10
"""Test images whose reconstructions are shown."""
FILTERS = 50
"""Units of the first layer whose weights are shown."""
POINTS = 3000
"""Test examples in the projection of the features."""


def metrics_file(method: str, way: str) -> str:
    """The name of a contestant's metrics file."""
    return "metrics.jsonl" if way == method else f"{way}.jsonl"


def machine(svm: Any) -> dict[str, Any]:
    """The settings of a support vector machine that `result.json` holds."""
    svc = svm[-1]
    return {"C": svc.C, "gamma": svc.gamma, "samples": int(svc.shape_fit_[0]), "vectors": len(svc.support_)}


def mean_image(task: Task, dataset: Dataset) -> dict[str, float]:
    """The RMSE of each split if every example is reconstructed as the mean train example: the baseline."""
    mean = jnp.asarray(dataset.train.x.mean(axis=0, dtype=np.float64)[None], jnp.float32)

    def errors(rows: jax.Array) -> jax.Array:
        wrong = task.inputs(rows) - task.inputs(mean)
        return jnp.mean(wrong.reshape(wrong.shape[0], -1) ** 2, axis=1)

    return {name: rmse(in_rows(errors, getattr(dataset, name).x)) for name in SPLITS}


def rmse(squared: np.ndarray) -> float:
    """The root of the mean of squared errors, summed in float64."""
    return float(np.sqrt(np.mean(squared, dtype=np.float64)))


def write(
    run: Run,
    result: dict[str, Any],
    dataset: Dataset,
    task: Task,
    layers: Sequence[Autoencoder],
    outcomes: Mapping[str, Outcome],
    firsts: Sequence[Member],
) -> None:
    """Draw the figures and finish the run.

    Args:
        run: the run.
        result: what `result.json` shall hold.
        dataset: its data.
        task: how examples are normalised.
        layers: of the autoencoder.
        outcomes: of each contestant, the method itself first.
        firsts: of the method's phases, the first member of each one's first population.
    """
    method, own = next(iter(outcomes)), next(iter(outcomes.values())).judged[0]
    figures = {"curves.png": _curves(run, result, outcomes, len(layers))}
    names = [f"layer {i + 1}" for i in range(len(layers))]
    report.bars(
        run.folder / "zeros.png",
        {way: dict(zip(names, shares, strict=True)) for way, shares in result["zeros"].items()},
        "share of weights that are exactly zero",
    )
    figures["zeros.png"] = "Sparsity: the share of exact zeros in each layer's matrix."
    if dataset.train.x.ndim == 4:
        rows = _sheet(dataset, task, layers, own.champion, firsts)
        report.sheet(run.folder / "reconstructions.png", rows)
        figures["reconstructions.png"] = (
            "Test images, and what becomes of them through the layers so far, before each phase (with the first member "
            "of its first population) and after it."
        )
        kernel = own.champion["layer_0"]["kernel"]
        pictures = np.asarray(kernel).T[:FILTERS].reshape(-1, *dataset.train.x.shape[1:])
        low, high = (bound(pictures, axis=(1, 2, 3), keepdims=True) for bound in (np.min, np.max))
        shown = (pictures - low) / np.maximum(high - low, 1e-12)
        report.pictures(
            run.folder / "filters.png",
            shown.squeeze(-1) if shown.shape[-1] == 1 else shown,
            [f"unit {i}" for i in range(len(shown))],
        )
        figures["filters.png"] = (
            "Weights of the first layer's first units, each from its least (black) to its greatest."
        )
    features = own.details.features[:POINTS]
    share = report.projection(run.folder / "features.png", features, dataset.test.y[:POINTS], dataset.classes)
    figures["features.png"] = (
        f"Features of {len(features):,} test examples, standardised, on their first two principal components, which "
        f"hold {share:.0%} of the variance."
    )
    report.confusion(run.folder / "confusion.png", dataset.test.y, own.predicted, dataset.classes)
    figures["confusion.png"] = "The support vector machine's confusion matrix on the test set."
    run.finish(result, figures, _notes(result, method))


def _curves(run: Run, result: Mapping[str, Any], outcomes: Mapping[str, Outcome], layers: int) -> str:
    """Draw the error by generation, a panel a phase, and the error of images by phase; returns what it shows."""
    method = next(iter(outcomes))
    lines = {way: read_metrics(run.folder / metrics_file(method, way)) for way in outcomes}
    # All layers at once are not a sequence of phases, and have nothing to show for the first layers alone.
    layerwise = {way: found for way, found in lines.items() if way != "sgd-joint"}
    panels = [
        Panel(
            f"generation, layer {depth + 1}",
            "validation RMSE of the target",
            {way: _phase(found, depth, layers) for way, found in layerwise.items()},
            log=True,
        )
        for depth in range(layers)
    ]
    depths = list(range(1, layers + 1))
    by_layer = {way: (depths, result["rmse_by_layer"][way]["test"]) for way in layerwise}
    if "sgd-joint" in lines:
        panels.append(
            Panel("generation, all layers", "validation RMSE", {"sgd-joint": _phase(lines["sgd-joint"], 0, 1)})
        )
        by_layer["sgd-joint"] = (depths[-1:], result["rmse_by_layer"]["sgd-joint"]["test"][-1:])
    by_layer["mean image"] = (depths, [result["mean_image_rmse"]["test"]] * layers)
    report.curves(run.folder / "curves.png", [*panels, Panel("layers", "test RMSE of images", by_layer)])
    return "Validation RMSE by generation of each phase, and the test RMSE of images through the layers so far."


def _phase(lines: Sequence[Mapping[str, Any]], depth: int, layers: int) -> tuple[list[int], list[float | None]]:
    """Generations and RMSE of one phase."""
    each = len(lines) // layers
    rows = lines[depth * each : (depth + 1) * each]
    return list(range(1, each + 1)), [line["validation"] and 1 / line["validation"] for line in rows]


def _sheet(
    dataset: Dataset, task: Task, layers: Sequence[Autoencoder], champion: Member, firsts: Sequence[Member]
) -> list[tuple[str, np.ndarray]]:
    """Named rows of images, in 0..1: the input, and its reconstructions before and after each phase."""
    inputs, shape = task.inputs(jnp.asarray(dataset.test.x[:PICTURES])), dataset.train.x.shape[1:]

    def images(depth: int, params: Member) -> np.ndarray:
        apply = reconstruction(stacked(layers[: depth + 1])).apply
        return np.asarray(apply(params, inputs)).reshape(-1, *shape)

    rows = [("input", np.asarray(inputs))]
    if "layer_0" in firsts[0]:  # All layers at once.
        last = len(layers) - 1
        return [*rows, ("before", images(last, firsts[0])), ("after", images(last, champion))]
    for depth, first in enumerate(firsts):
        before = {**champion, f"layer_{depth}": first}
        rows += [(f"layer {depth + 1}, before", images(depth, before)), ("after", images(depth, champion))]
    return rows


def _notes(result: Mapping[str, Any], method: str) -> list[str]:
    def by_layer(values: Sequence[float], form: str) -> str:
        return ", ".join(format(value, form) for value in values)

    config, svm = result["config"], result["svm"][method]
    target = "its own input" if config["target"] == "input" else "the image, through the frozen decoder below it"
    notes = [
        f"Units {'-'.join(map(str, result['shape']))}, {' '.join(config['activation'])}, {config['output']} output; "
        f"each layer was to reconstruct {target}. RMSE is over all examples and pixels, of inputs as the first layer "
        f"reads them; the mean train example has {result['mean_image_rmse']['test']:.4f} on test.",
        f"The support vector machine was fitted on {svm['samples']:,} train examples: C {svm['C']:g}, gamma "
        f"{svm['gamma']:.4g} (chosen on validation), {svm['vectors']:,} support vectors.",
    ]
    for way, rmse in result["rmse_by_layer"].items():
        shares = by_layer(result["zeros"][way], ".1%")
        errors = f"through 1, 2, .. layers {by_layer(rmse['test'], '.4f')}"
        if way == "sgd-joint":  # Its first layers alone are no autoencoder.
            errors = f"through all layers {rmse['test'][-1]:.4f}"
        notes.append(f"{way}: test RMSE of images {errors}; zeros by layer {shares}.")
    return notes
