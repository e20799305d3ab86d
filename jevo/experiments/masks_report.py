"""The pictures and the report of a mask experiment."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jevo import bits
from jevo.bits import Bits, is_bits
from jevo.data.datasets import Dataset
from jevo.networks.masked import Kind, density
from jevo.runs import report
from jevo.runs.contest import Outcome
from jevo.runs.record import Run, read_metrics
from jevo.runs.report import Panel
from jevo.types import Member

METRICS = {"search": "metrics.jsonl", "random_search": "random_search.jsonl"}
"""The file of each search's metrics."""
MOST_PICTURES = 40
"""Hidden units whose masks are shown."""


def density_by_layer(genome: Member, kind: Kind) -> dict[str, float]:
    """The share of weights that each mask keeps, and of all together under `all`."""
    shares, _ = jax.tree.flatten_with_path(density(genome, kind))
    sizes = [mask.size for mask in jax.tree.leaves(genome, is_leaf=is_bits)]
    layers = {"/".join(str(part.key) for part in path): float(share) for path, share in shares}
    return {**layers, "all": float(np.average(list(layers.values()), weights=sizes))}


def write(run: Run, result: dict[str, Any], dataset: Dataset, outcomes: Mapping[str, Outcome], kind: Kind) -> None:
    """Draw the figures and finish the run."""
    folder = run.folder
    lines = {name: read_metrics(folder / file) for name, file in METRICS.items()}

    def series(name: str, key: str) -> tuple[list[int], list[float | None]]:
        return [line["generation"] for line in lines[name]], [line[key] for line in lines[name]]

    fitness = {
        "best": series("search", "best"),
        "mean": series("search", "mean"),
        "random search, best": series("random_search", "best"),
    }
    accuracy = {
        "train batch, best member": series("search", "train"),
        "validation": series("search", "validation"),
        "random search, validation": series("random_search", "validation"),
        **{
            f"{name}, test": ([0, lines["search"][-1]["generation"]], [entry["metrics"]["test"]["accuracy"]] * 2)
            for name, entry in result["references"].items()
        },
    }
    panels = [Panel("generation", "fitness", fitness), Panel("generation", "accuracy", accuracy)]
    report.curves(folder / "curves.png", panels)
    figures = {
        "curves.png": "Fitness and accuracy by generation. Fitness is that of the train batch of its generation."
    }
    judged = outcomes["search"].judged[0]
    masks = first_layer(judged.champion, dataset.train.x.shape[1:], kind)
    if masks is not None:
        report.pictures(folder / "masks.png", masks, [f"unit {i}" for i in range(len(masks))])
        figures["masks.png"] = "The champion's mask over the input of each hidden unit: white is kept, black dropped."
    report.bars(folder / "density.png", {"champion": result["density"]}, "share of weights kept")
    figures["density.png"] = "Density of the champion's mask by layer."
    report.confusion(folder / "confusion.png", dataset.test.y, judged.predicted, dataset.classes)
    figures["confusion.png"] = "The champion's confusion matrix on the test set."
    note = (
        f"The champion is from generation {result['champion']['generation']:,} and keeps "
        f"{result['density']['all']:.1%} of the weights."
    )
    run.finish(result, figures, [note])


def first_layer(genome: Member, shape: tuple[int, ...], kind: Kind) -> np.ndarray | None:
    """The masks of the first layer as pictures `[units, height, width]`, or None where inputs are not images."""
    mask: Bits = jax.tree.leaves(genome, is_leaf=is_bits)[0]
    kept = np.asarray(bits.unpack(mask), np.float32)
    if kind == "mask_flip":  # Dropped grey, inverted black, kept white.
        kept = 0.5 + kept[0] * (kept[1] - 0.5)
    if kept.ndim == 4:
        return kept.mean(axis=2).transpose(2, 0, 1)[:MOST_PICTURES]
    if len(shape) != 3:
        return None
    return kept.reshape(*shape, -1).mean(axis=2).transpose(2, 0, 1)[:MOST_PICTURES]
