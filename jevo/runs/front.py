"""The front of a run of two objectives: its members judged, and what a run says and keeps of them."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import plots
from jevo import population as pop
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.files import atomic_write
from jevo.genetics import Archive, hypervolume
from jevo.runs.champion import save_front
from jevo.runs.experiment import Report, captioned
from jevo.training import evaluate, measure
from jevo.training.scoring import in_rows
from jevo.types import Member, Population


class Front(NamedTuple):
    """The members of an archive, from the least of the second objective to the most, and what each is worth.

    Attributes:
        members: leaves `[n, ...]`.
        points: of each, as `result.json` holds them: the second objective by its name, `found`, and `metrics` by split.
    """

    members: Population
    points: list[dict[str, Any]]


def judge_front(
    archive: Archive, cost: str, logits: Callable[[Member, jax.Array], jax.Array], dataset: Dataset, chunk: int
) -> Front:
    """Judges the members of an archive that classify, all of them in one program. The test set is used here, and once.

    Args:
        archive: of two objectives, the second being minus what is paid.
        cost: what that is called.
        logits: `(member, x [rows, ...]) -> [rows, classes]`; normalisation included.
        dataset: all three sets.
        chunk: members at once, at most.
    """
    paid = -np.asarray(archive.objectives)[:, 1]
    order = np.argsort(paid, kind="stable")[: int(np.isfinite(paid).sum())]
    members = jax.tree.map(jnp.asarray, pop.take(archive.members, jnp.asarray(order)))

    def probabilities(x: jax.Array) -> jax.Array:
        of_each = evaluate(lambda member: jax.nn.softmax(logits(member, x)), members, chunk)
        return jnp.swapaxes(of_each, 0, 1)

    metrics: list[dict[str, Any]] = [{} for _ in order]
    for name in SPLITS:
        split = getattr(dataset, name)
        predicted = in_rows(probabilities, split.x)
        for i, own in enumerate(metrics):
            own[name] = measure(predicted[:, i], split.y)
    return Front(
        members,
        [
            {cost: float(paid[i]), "found": int(archive.found[i]), "metrics": own}
            for i, own in zip(order, metrics, strict=True)
        ],
    )


def front_report(fronts: Mapping[str, Front], params: str, cost: str, label: str) -> Report:
    """What a run says of its front beside its control's, and the front itself, for `predict` to read.

    Args:
        fronts: by name: the experiment's own, and its control's.
        params: the entry of the champion's params that differs along the front.
        cost: what the second objective is called.
        label: words for it, a share.
    """
    own, control, *_ = fronts
    points = {name.replace("_", " "): front.points for name, front in fronts.items()}
    areas = {name: _area(of, cost) for name, of in points.items()}
    said = ", ".join(f"{name} {area:.4f}" for name, area in areas.items())
    curves = {
        name: ([100 * one[cost] for one in of], [100 * one["metrics"]["test"]["accuracy"] for one in of])
        for name, of in points.items()
    }
    return Report(
        {"front": fronts[own].points, "control_front": fronts[control].points, "hypervolume": areas},
        [
            f"The front: accuracy against {label}. Validation data chose its members, the test set was used once, for "
            f"this table; `--front` of `jevo.predict` takes a number of its first column.\n\n"
            f"{_table(fronts[own].points, cost)}",
            f"Area that the front dominates, of test accuracy against {label} (1 is all of it): {said}.",
        ],
        {
            "front.png": captioned(
                f"The front, and that of the control: test accuracy against {label}.",
                plots.front, curves, f"{label} [%]", "test accuracy [%]",
            )
        },
        {
            "front.csv": lambda path: atomic_write(path, _csv(points, cost)),
            "front": lambda path: save_front(path.parent, {params: fronts[own].members}),
        },
    )  # fmt: skip


def _area(points: list[dict[str, Any]], cost: str) -> float:
    objectives = [[one["metrics"]["test"]["accuracy"], -one[cost]] for one in points]
    return float(hypervolume(jnp.array(objectives), jnp.array([0.0, -1.0])))


def _table(points: list[dict[str, Any]], cost: str) -> str:
    head = ["front", cost, "validation accuracy", "test accuracy", "test loss", "generation"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for number, one in enumerate(points, start=1):
        of = one["metrics"]
        values = [one[cost], of["validation"]["accuracy"], of["test"]["accuracy"], of["test"]["loss"]]
        lines.append(f"| {number} | " + " | ".join(f"{value:.4f}" for value in values) + f" | {one['found']:,} |")
    return "\n".join(lines)


def _csv(points: Mapping[str, list[dict[str, Any]]], cost: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = [(split, name) for split in SPLITS for name in ("accuracy", "loss")]
    writer.writerow(["contestant", "front", cost, "generation", *(f"{split}_{name}" for split, name in metrics)])
    for who, of in points.items():
        for number, one in enumerate(of, start=1):
            values = [one["metrics"][split][name] for split, name in metrics]
            writer.writerow([who, number, one[cost], one["found"], *values])
    return text.getvalue()
