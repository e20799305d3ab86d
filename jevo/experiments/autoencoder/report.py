"""The pictures and the report of an autoencoder experiment."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo import plots
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.task import Task
from jevo.experiments.autoencoder.config import FINE_TUNED, PRUNED, Config, rival_of, widths
from jevo.experiments.autoencoder.contest import chosen, phases, preferred
from jevo.experiments.autoencoder.judging import by_error, rmse_of, svm_settings
from jevo.experiments.autoencoder.search import layers
from jevo.networks import Autoencoder, reconstruction, stacked
from jevo.plots import LEVEL, Curve, Panel
from jevo.runs import (
    Contest,
    Judged,
    Merit,
    Outcome,
    Price,
    Report,
    Run,
    Saved,
    captioned,
    competitors,
    front_figures,
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
NONZERO = Price("nonzero", "share of weights that are not zero")
"""What the members of a front cost."""


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the autoencoder experiment says of itself."""
    method, own = run.config.method, outcomes[run.config.method]
    judged = {name: outcome.champion for name, outcome in outcomes.items()}
    shape, champions = (
        widths(run.config, int(np.prod(contest.dataset.train.x.shape[1:]))),
        preferred(run.config, own.found),
    )
    findings = {
        "shape": list(shape),
        "champion": {
            "generation": [int(search.found) for search in champions],
            "validation_rmse": [1 / float(search.validation) for search in champions],
        },
        "rmse_by_layer": {name: each.details.rmse for name, each in judged.items()},
        "zeros": {name: each.details.zeros for name, each in judged.items()},
        "svm": {name: svm_settings(each.details.svm) for name, each in judged.items()},
        "mean_image_rmse": mean_image(contest.task, contest.dataset),
    }
    if run.config.tune_lr:
        findings["lr"] = {name: rates(run.config, outcome) for name, outcome in outcomes.items() if outcome.found}
    front = found_front(run.config, contest, outcomes, shape) if len(run.config.objectives) > 1 else Report({})
    return Report(
        {**findings, **front.findings},
        [*notes(run.config, findings), *front.notes],
        pictures(run, contest, judged, findings),
        {"svm.skops": partial(save_model, model=judged[method].details.svm), **front.files},
    )


def rates(config: Config, outcome: Outcome) -> list[float]:
    """The learning rate of each phase that validation data prefer."""
    return [config.rates[i % len(config.rates)] for i in chosen(config, outcome.found)]


def found_front(config: Config, contest: Contest, outcomes: Mapping[str, Outcome], shape: tuple[int, ...]) -> Report:
    """The fronts of the method and of its control: the error of images against the share of weights kept."""
    judge = by_error(config, shape, contest.task, contest.dataset)
    fronts = {name: judge_front(outcome.found[0].front, "nonzero", judge) for name, outcome in outcomes.items()}
    blank = blank_rmse(contest.task, contest.dataset)
    found = front_report(fronts, NONZERO, _merit(blank))
    said = f"Of an RMSE, what counts as area is 1 - RMSE / {blank:.4f}, the RMSE of a reconstruction that is zero."
    return found._replace(findings={**found.findings, "blank_rmse": blank}, notes=[*found.notes, said])


def _merit(blank: float = 1.0) -> Merit:
    """The error of a reconstruction; `blank` is that of one that is zero, whose height is 0."""
    return Merit(("rmse",), "RMSE", 1, lambda rmse: max(0.0, 1 - rmse / blank))


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


def pictures(
    run: Run[Config], contest: Contest, judged: Mapping[str, Judged], findings: Mapping[str, Any]
) -> dict[str, Callable[[Path], str]]:
    """What is drawn of the champion and of test examples, by name."""
    dataset, own, tied_layers = contest.dataset, judged[run.config.method], layers(run.config, findings["shape"])
    drawn: dict[str, Callable[[Path], str]] = {}
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


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves, and the front if there is one."""
    caption = (
        "Validation RMSE by generation of each phase, of what its layer is to reconstruct; and the test RMSE of images "
        "through the layers so far."
    )
    if saved.config.tune_lr:
        caption += " Of the learning rates that a phase was run at, the one that validation data prefer is drawn."
    if any(map(is_sparse, saved.result["zeros"])):
        caption += (
            " By the share of zeros, a line goes from a rival's champion to what it is pruned, and then fine-tuned."
        )
    drawn = {"curves.png": captioned(caption, draw_curves, saved)}
    return drawn | (front_figures(saved, NONZERO, _merit()) if len(saved.config.objectives) > 1 else {})


def is_sparse(name: str) -> bool:
    """Whether a contestant has a rival's champion, with fewer weights."""
    return bool(rival_of(name, PRUNED) or rival_of(name, FINE_TUNED))


def draw_curves(path: Path, saved: Saved) -> None:
    """The error by generation, a panel a phase, the error of images by phase, and by the share of zeros."""
    found, config, by_layer = competitors(saved), saved.config, saved.result["rmse_by_layer"]
    count = len(saved.result["shape"]) - 1
    everybody = dict(zip(by_layer, found, strict=True))
    methods = {name: each for name, each in everybody.items() if not is_sparse(name)}

    def errors(name: str, depth: int, generations: int) -> Curve:
        """The RMSE of one phase by its generations, at the learning rate that was preferred."""
        places = [config.rates.index(rate) for rate in saved.result.get("lr", {}).get(name, ())] or [0] * count
        first = (depth * len(config.rates) + places[depth]) * generations
        values = methods[name].series("validation")[first : first + generations]
        return Curve(
            methods[name].title,
            methods[name].style,
            range(1, 1 + len(values)),
            [value and 1 / value for value in values],
        )

    # All layers at once are not a sequence of phases, and have nothing to show for the first layers alone.
    layerwise = [name for name in methods if not config.at_once(name)]
    at_once = [name for name in methods if config.at_once(name)]
    panels = [
        Panel(
            f"generation, layer {depth + 1}",
            "validation RMSE of the target",
            [errors(name, depth, config.generations) for name in layerwise],
            log=True,
        )
        for depth in range(count if layerwise else 0)
    ]
    if at_once:
        whole = [errors(name, 0, config.generations * count) for name in at_once]
        panels.append(Panel("generation, all layers", "validation RMSE of images", whole, log=True))
    if found[0].has("hypervolume"):
        areas = [each.by_generation("hypervolume") for each in found]
        panels.append(Panel("generation", "hypervolume of the front (validation, 1 / RMSE)", areas))
    depths = range(1, count + 1)
    ends = [
        Curve(each.title, each.style, depths[-1:], by_layer[name]["test"][-1:])
        if config.at_once(name)
        else Curve(each.title, each.style, depths, by_layer[name]["test"])
        for name, each in methods.items()
    ]
    mean = Curve("mean image", LEVEL, [0], [saved.result["mean_image_rmse"]["test"]], "level")
    panels.append(Panel("layers", "test RMSE of images", [*ends, mean], log=True))
    if len(methods) < len(everybody):
        ways = []
        for name, each in methods.items():
            stops = [stop for stop in (name, f"{name}-{PRUNED}", f"{name}-{FINE_TUNED}") if stop in everybody]
            shares = [share_of_zeros(saved.result, stop) for stop in stops]
            ways.append(Curve(each.title, each.style, shares, [by_layer[stop]["test"][-1] for stop in stops]))
        panels.append(Panel("share of weights that is zero", "test RMSE of images", ways, log=True))
    plots.curves(path, panels)


def share_of_zeros(result: Mapping[str, Any], name: str) -> float:
    """The share of zeros among the weights of all layers together."""
    shape = result["shape"]
    sizes = [inputs * outputs for inputs, outputs in pairwise(shape)]
    return float(np.average(result["zeros"][name], weights=sizes))


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
        rows += [
            (f"layer {depth + 1}, before", images(depth, before)),
            (f"layer {depth + 1}, after", images(depth, champion)),
        ]
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
    if any(map(is_sparse, findings["zeros"])):
        generation = config.learners * config.steps
        long_run = f" (the long run {config.generations * generation:,})" if "long-run" in findings["zeros"] else ""
        none = "" if any(findings["zeros"][config.method]) else ", which are none, so that nothing is pruned"
        said.append(
            f"Pruned: the champion of a rival without its smallest weights, as many of each layer as {config.method} "
            f"has zeros there{none}. Fine-tuned: the same, trained on while zeros stay zero, for "
            f"{config.fine_tuning * generation:,} gradient steps a layer, where one of {config.networks} restarts had "
            f"{config.generations * generation // config.networks:,} before{long_run}. These are in "
            "its budget, beside those of the rival: it has more than the others."
        )
    if config.tune_lr:
        tried = ", ".join(f"{rate:g}" for rate in config.tune_lr)
        preferred = "; ".join(f"{name} {by_layer(found, 'g')}" for name, found in findings["lr"].items())
        said.append(
            f"Every phase was run at {len(config.tune_lr)} learning rates ({tried}), all of which are in the budgets. "
            f"Validation data prefer, by phase: {preferred}."
        )
    return said
