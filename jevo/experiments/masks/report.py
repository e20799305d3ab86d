"""The pictures and the report of a mask experiment."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from jevo import bits, plots
from jevo.bits import Bits, is_bits
from jevo.experiments import forward
from jevo.experiments.masks.config import Config
from jevo.experiments.searcher import FRONT
from jevo.networks import MaskKind, masked
from jevo.networks.masks import density
from jevo.runs import (
    ACCURACY,
    R2,
    Contest,
    Front,
    Outcome,
    Price,
    Report,
    Run,
    Saved,
    answers_figure,
    by_criterion,
    captioned,
    front_figures,
    front_report,
    judge_front,
)
from jevo.types import Member

MOST_PICTURES = 40
"""Hidden units whose masks are shown."""
MEANS = {
    "mask": "white is kept, black is dropped",
    "mask_rs": "white is kept, black is dropped",
    "flip": "white is as it was drawn, black has its sign turned",
    "mask_flip": "white is kept as it was drawn, black with its sign turned, grey is dropped",
}
"""What the pictures of each kind of mask show."""
KEPT = Price("kept", "share of weights kept")
"""What the members of a front cost."""


def density_by_layer(genome: Member, kind: MaskKind) -> dict[str, float]:
    """The share of weights that each mask keeps, and of all together under `all`."""
    shares, _ = jax.tree.flatten_with_path(density(genome, kind))
    sizes = [mask.size for mask in jax.tree.leaves(genome, is_leaf=is_bits)]
    layers = {"/".join(str(part.key) for part in path): float(share) for path, share in shares}
    return {**layers, "all": float(np.average(list(layers.values()), weights=sizes))}


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the mask experiment says of itself."""
    own, dataset, kind = outcomes["search"], contest.dataset, run.config.mask
    genome = own.champion.champion["genome"]
    shares = density_by_layer(genome, kind)
    found = int(own.found[0].found)
    figures: dict[str, Callable[[Path], str]] = {}
    masks = first_layer(genome, dataset.train.x.shape[1:], kind, dataset.values.first)
    if masks is not None:
        mean = " Of the channels, the mean is shown." if dataset.values.channels > 1 else ""
        figures["masks.png"] = captioned(
            f"The champion's mask over the input of each hidden unit: {MEANS[kind]}.{mean}",
            plots.image_grid, masks, [f"unit {i}" for i in range(len(masks))],
        )  # fmt: skip
    figures |= answers_figure(dataset, own.champion.predicted, "The champion's")
    front = Report({})
    if len(run.config.objectives) > 1:
        fronts = {name: judged(run.config, contest, outcomes[name]) for name in ("search", "random_search")}
        front = front_report(fronts, KEPT, ACCURACY if contest.criterion.classifies else R2)
    return Report(
        {
            "champion": {"generation": found, "validation": float(own.found[0].validation)},
            "density": shares,
            **front.findings,
        },
        [
            f"The champion is from generation {found:,}. {said(shares, kind)}",
            *forward.scale_notes(run.config, contest.criterion),
            *front.notes,
        ],
        figures,
        front.files,
    )


def figures(saved: Saved) -> dict[str, Callable[[Path], str]]:
    """The curves, and the front if there is one."""
    merit = ACCURACY if "accuracy" in saved.result["metrics"]["test"] else R2
    return forward.figures(saved) | (front_figures(saved, KEPT, merit) if len(saved.config.objectives) > 1 else {})


def said(shares: Mapping[str, float], kind: MaskKind) -> str:
    """A sentence on what a mask keeps."""
    does = "leaves {} of the weights as they are" if kind == "flip" else "keeps {} of the weights"
    layers = [
        f"{name.removesuffix('/kernel').replace('_', ' ')} {share:.1%}"
        for name, share in shares.items()
        if name != "all"
    ]
    by_layer = f" ({', '.join(layers)})" if len(layers) > 1 else ""
    return f"Its mask {does.format(format(shares['all'], '.1%'))}{by_layer}."


def judged(config: Config, contest: Contest, outcome: Outcome) -> Front:
    """The front of a contestant."""
    dataset, weights = contest.dataset, outcome.champion.champion["weights"]
    assert contest.network
    net = masked(contest.network, weights, config.mask)
    outputs = lambda genome, x: net.apply(genome, contest.task.inputs(x))  # noqa: E731
    judge = by_criterion(contest.criterion, outputs, dataset, config.chunk or FRONT)
    return judge_front(outcome.found[0].front, "kept", judge, varying="genome")


def first_layer(genome: Member, shape: tuple[int, ...], kind: MaskKind, first: bool = False) -> np.ndarray | None:
    """The masks of the first layer as pictures `[units, height, width]`, or None where inputs are not images.

    Args:
        genome: whose masks they are.
        shape: of an example.
        kind: of mask.
        first: whether channels come first in an example.
    """
    mask: Bits = jax.tree.leaves(genome, is_leaf=is_bits)[0]
    kept = np.asarray(bits.unpack(mask), np.float32)
    if kind == "mask_flip":  # Dropped grey, inverted black, kept white.
        kept = 0.5 + kept[0] * (kept[1] - 0.5)
    if kept.ndim == 4:
        return kept.mean(axis=2).transpose(2, 0, 1)[:MOST_PICTURES]
    if len(shape) != 3 or kept.ndim != 2 or kept.shape[0] != np.prod(shape):
        return None  # Of a network of the user's own the first array may be anything.
    return kept.T[:MOST_PICTURES].reshape(-1, *shape).mean(axis=1 if first else 3)
