"""The pictures and the report of a mask experiment."""

from collections.abc import Mapping

import jax
import numpy as np

from jevo import bits, plots
from jevo.bits import Bits, is_bits
from jevo.experiments.forward import draw_curves
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
    answers_figure,
    by_criterion,
    captioned,
    front_report,
    judge_front,
)
from jevo.types import Member

MOST_PICTURES = 40
"""Hidden units whose masks are shown."""


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
    figures = {
        "curves.png": captioned(
            f"Fitness and {contest.criterion.scored} by generation. Fitness is that of its generation's train batch.",
            draw_curves, contest.lines(run.folder), outcomes, contest.criterion,
        )
    }  # fmt: skip
    masks = first_layer(genome, dataset.train.x.shape[1:], kind, dataset.values.first)
    if masks is not None:
        figures["masks.png"] = captioned(
            "The champion's mask over the input of each hidden unit: white is kept, black dropped.",
            plots.image_grid, masks, [f"unit {i}" for i in range(len(masks))],
        )  # fmt: skip
    figures["density.png"] = captioned(
        "Density of the champion's mask by layer.", plots.bars, {"champion": shares}, "share of weights kept"
    )
    figures |= answers_figure(dataset, own.champion.predicted, "The champion's")
    front = Report({})
    if len(run.config.objectives) > 1:
        fronts = {name: judged(run.config, contest, outcomes[name]) for name in ("search", "random_search")}
        merit = ACCURACY if contest.criterion.classifies else R2
        front = front_report(fronts, Price("kept", "share of weights kept"), merit)
    return Report(
        {
            "champion": {"generation": found, "validation": float(own.found[0].validation)},
            "density": shares,
            **front.findings,
        },
        [f"The champion is from generation {found:,} and keeps {shares['all']:.1%} of the weights.", *front.notes],
        {**front.figures, **figures},
        front.files,
    )


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
