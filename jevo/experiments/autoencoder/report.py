"""The pictures and the report of an autoencoder experiment."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo import plots
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.experiments.autoencoder.config import Config, widths
from jevo.experiments.autoencoder.contest import by_error, phases, rmse_of, svm_settings
from jevo.experiments.autoencoder.search import layers
from jevo.networks import Autoencoder, reconstruction, stacked
from jevo.plots import Panel
from jevo.runs import (
    Contest,
    Judged,
    Merit,
    Outcome,
    Price,
    Report,
    Run,
    captioned,
    front_report,
    judge_front,
    save_model,
)
from jevo.training import in_rows
from jevo.types import Member

PICTURES = 10
"""Test images whose reconstructions are shown."""
FILTERS = 50
"""Units of the first layer whose weights are shown."""
POINTS = 3000
"""Test examples in the projection of the features."""


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the autoencoder experiment says of itself."""
    method, own = run.config.method, outcomes[run.config.method]
    judged = {name: outcome.champion for name, outcome in outcomes.items()}
    shape = widths(run.config, int(np.prod(contest.dataset.train.x.shape[1:])))
    findings = {
        "shape": list(shape),
        "champion": {
            "generation": [int(search.found) for search in own.found],
            "validation_rmse": [1 / float(search.validation) for search in own.found],
        },
        "rmse_by_layer": {name: each.details.rmse for name, each in judged.items()},
        "zeros": {name: each.details.zeros for name, each in judged.items()},
        "svm": {name: svm_settings(each.details.svm) for name, each in judged.items()},
        "mean_image_rmse": mean_image(contest.task, contest.dataset),
    }
    front = found_front(run.config, contest, outcomes, shape) if len(run.config.objectives) > 1 else Report({})
    return Report(
        {**findings, **front.findings},
        [*notes(run.config, findings), *front.notes],
        {**front.figures, **figures(run, contest, judged, findings)},
        {"svm.skops": partial(save_model, model=judged[method].details.svm), **front.files},
    )


def found_front(config: Config, contest: Contest, outcomes: Mapping[str, Outcome], shape: tuple[int, ...]) -> Report:
    """The fronts of the method and of its control: the error of images against the share of weights kept."""
    judge = by_error(config, shape, contest.task, contest.dataset)
    fronts = {name: judge_front(outcome.found[0].front, "nonzero", judge) for name, outcome in outcomes.items()}
    blank = blank_rmse(contest.task, contest.dataset)
    merit = Merit(("rmse",), "RMSE", 1, lambda rmse: max(0.0, 1 - rmse / blank))
    found = front_report(fronts, Price("nonzero", "share of weights that are not zero"), merit)
    said = f"Of an RMSE, what counts as area is 1 - RMSE / {blank:.4f}, the RMSE of a reconstruction that is zero."
    return found._replace(findings={**found.findings, "blank_rmse": blank}, notes=[*found.notes, said])


def blank_rmse(task: Task, dataset: Dataset) -> float:
    """The RMSE of test examples if each is reconstructed as zero."""
    inputs = in_rows(lambda x: jnp.mean(task.inputs(x).reshape(x.shape[0], -1) ** 2, axis=1), dataset.test.x)
    return rmse_of(inputs)


def mean_image(task: Task, dataset: Dataset) -> dict[str, float]:
    """The RMSE of each split if every example is reconstructed as the mean train example: the baseline."""
    mean = jnp.asarray(dataset.train.x.mean(axis=0, dtype=np.float64)[None], jnp.float32)

    def errors(rows: jax.Array) -> jax.Array:
        wrong = task.inputs(rows) - task.inputs(mean)
        return jnp.mean(wrong.reshape(wrong.shape[0], -1) ** 2, axis=1)

    return {name: rmse_of(in_rows(errors, getattr(dataset, name).x)) for name in SPLITS}


def figures(
    run: Run[Config], contest: Contest, judged: Mapping[str, Judged], findings: Mapping[str, Any]
) -> dict[str, Callable[[Path], str]]:
    """What is drawn, by name."""
    dataset, own, tied_layers = contest.dataset, judged[run.config.method], layers(run.config, findings["shape"])
    names = [f"layer {i + 1}" for i in range(len(tied_layers))]
    at_once = [method for method in judged if run.config.at_once(method)]
    zeros = {method: dict(zip(names, shares, strict=True)) for method, shares in findings["zeros"].items()}
    drawn = {
        "curves.png": captioned(
            "Validation RMSE by generation of each phase, and the test RMSE of images through the layers so far.",
            draw_curves, contest.lines(run.folder), findings, len(tied_layers), at_once,
        ),
        "zeros.png": captioned(
            "Sparsity: the share of exact zeros in each layer's matrix.",
            plots.bars, zeros, "share of weights that are exactly zero",
        ),
    }  # fmt: skip
    if dataset.train.x.ndim == 4:
        mean = "" if dataset.values.channels else " Of the channels, the mean is shown."

        def draw_reconstructions(path: Path) -> None:
            firsts = [each.first() for each in phases(run.config, tied_layers, run.config.method)]
            plots.image_rows(path, sheet(dataset, contest.task, tied_layers, own.champion, firsts))

        drawn["reconstructions.png"] = captioned(
            "Test images, and what becomes of them through the layers so far, before each phase (with the first member "
            f"of its first population) and after it.{mean}",
            draw_reconstructions,
        )
        drawn["filters.png"] = captioned(
            f"Weights of the first layer's first units, each from its least (black) to its greatest.{mean}",
            draw_filters, own.champion["layer_0"]["kernel"], dataset,
        )  # fmt: skip
    drawn["features.png"] = partial(draw_features, features=own.details.features, dataset=dataset)
    drawn["confusion.png"] = captioned(
        "The support vector machine's confusion matrix on the test set.",
        plots.confusion_matrix, dataset.test.y, own.predicted, dataset.classes,
    )  # fmt: skip
    return drawn


def draw_features(path: Path, features: np.ndarray, dataset: Dataset) -> str:
    """The features of test examples on two axes; returns what is shown."""
    shown = features[:POINTS]
    share = plots.pca_projection(path, shown, dataset.test.y[:POINTS], dataset.classes)
    return (
        f"Features of {len(shown):,} test examples, standardised, on their first two principal components, which "
        f"hold {share:.0%} of the variance."
    )


def draw_filters(path: Path, kernel: jax.Array, dataset: Dataset) -> None:
    """The weights of the first units as pictures."""
    pictures = dataset.values.laid_out(np.asarray(kernel).T[:FILTERS].reshape(-1, *dataset.train.x.shape[1:]))
    low, high = (bound(pictures, axis=(1, 2, 3), keepdims=True) for bound in (np.min, np.max))
    shown = (pictures - low) / np.maximum(high - low, 1e-12)
    titles = [f"unit {i}" for i in range(len(shown))]
    plots.image_grid(path, shown, titles)


def draw_curves(
    path: Path,
    lines: Mapping[str, list[dict[str, Any]]],
    findings: Mapping[str, Any],
    layers: int,
    at_once: Sequence[str],
) -> None:
    """The error by generation, a panel a phase, and the error of images by phase; `at_once` are the methods of one."""
    # All layers at once are not a sequence of phases, and have nothing to show for the first layers alone.
    layerwise = {method: found for method, found in lines.items() if method not in at_once}
    panels = [
        Panel(
            f"generation, layer {depth + 1}",
            "validation RMSE of the target",
            {method: _phase(found, depth, layers) for method, found in layerwise.items()},
            log=True,
        )
        for depth in range(layers if layerwise else 0)
    ]
    depths = list(range(1, layers + 1))
    by_layer = {method: (depths, findings["rmse_by_layer"][method]["test"]) for method in layerwise}
    if at_once:
        whole = {method: _phase(lines[method], 0, 1) for method in at_once}
        panels.append(Panel("generation, all layers", "validation RMSE", whole))
        by_layer |= {method: (depths[-1:], findings["rmse_by_layer"][method]["test"][-1:]) for method in at_once}
    areas = {
        method: ([line["generation"] for line in found], [line["hypervolume"] for line in found])
        for method, found in lines.items()
        if "hypervolume" in found[-1]
    }
    if areas:
        panels.append(Panel("generation", "hypervolume of the front (validation, 1 / RMSE)", areas))
    by_layer["mean image"] = (depths, [findings["mean_image_rmse"]["test"]] * layers)
    plots.curves(path, [*panels, Panel("layers", "test RMSE of images", by_layer)])


def _phase(lines: Sequence[Mapping[str, Any]], depth: int, layers: int) -> tuple[list[int], list[float | None]]:
    """Generations and RMSE of one phase."""
    each = len(lines) // layers
    rows = lines[depth * each : (depth + 1) * each]
    return list(range(1, each + 1)), [line["validation"] and 1 / line["validation"] for line in rows]


def sheet(
    dataset: Dataset, task: Task, layers: Sequence[Autoencoder], champion: Member, firsts: Sequence[Member]
) -> list[tuple[str, np.ndarray]]:
    """Named rows of images, in 0..1: the input, and its reconstructions before and after each phase."""
    inputs, shape = task.inputs(jnp.asarray(dataset.test.x[:PICTURES])), dataset.train.x.shape[1:]

    def images(depth: int, params: Member) -> np.ndarray:
        apply = reconstruction(stacked(layers[: depth + 1])).apply
        return dataset.values.laid_out(np.asarray(apply(params, inputs)).reshape(-1, *shape))

    rows = [("input", dataset.values.laid_out(np.asarray(inputs)))]
    if "layer_0" in firsts[0]:  # All layers at once.
        last = len(layers) - 1
        return [*rows, ("before", images(last, firsts[0])), ("after", images(last, champion))]
    for depth, first in enumerate(firsts):
        before = {**champion, f"layer_{depth}": first}
        rows += [(f"layer {depth + 1}, before", images(depth, before)), ("after", images(depth, champion))]
    return rows


def notes(config: Any, findings: Mapping[str, Any]) -> list[str]:
    """Paragraphs for the report."""

    def by_layer(values: Sequence[float], form: str) -> str:
        return ", ".join(format(value, form) for value in values)

    svm = findings["svm"][config.method]
    target = "its own input" if config.target == "input" else "the image, through the frozen decoder below it"
    said = [
        f"Units {'-'.join(map(str, findings['shape']))}, {' '.join(config.activation)}, {config.output} output; "
        f"each layer was to reconstruct {target}. RMSE is over all examples and pixels, of inputs as the first layer "
        f"reads them; the mean train example has {findings['mean_image_rmse']['test']:.4f} on test.",
        f"The support vector machine was fitted on {svm['samples']:,} train examples: C {svm['C']:g}, gamma "
        f"{svm['gamma']:.4g} (chosen on validation), {svm['vectors']:,} support vectors.",
    ]
    for method, rmse in findings["rmse_by_layer"].items():
        shares = by_layer(findings["zeros"][method], ".1%")
        errors = f"through 1, 2, .. layers {by_layer(rmse['test'], '.4f')}"
        if config.at_once(method):  # Its first layers alone are no autoencoder.
            errors = f"through all layers {rmse['test'][-1]:.4f}"
        said.append(f"{method}: test RMSE of images {errors}; zeros by layer {shares}.")
    return said
