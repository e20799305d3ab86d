"""The front of a run of two objectives: its members judged, and what a run says and keeps of them."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import plots
from jevo import population as pop
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.files import atomic_write, read_file
from jevo.errors import InputError
from jevo.genetics import Archive, hypervolume
from jevo.runs.champion import Saved, save_front
from jevo.runs.experiment import Report, captioned
from jevo.runs.report import entries
from jevo.training.criterion import Criterion
from jevo.training.scoring import evaluate, in_rows
from jevo.types import Member, Population

CSV = "front.csv"
"""Where a run keeps its fronts."""
Metrics = dict[str, dict[str, float]]
"""By split, and by name."""


class Merit(NamedTuple):
    """What the members of a front are good at, beside the little that they cost.

    Attributes:
        metrics: their names; the first one is the front's own.
        label: words for that one.
        scale: what it is times in figures; 100 for percent.
        height: `of one -> 0..1`, how much that is: the front's area is made of it.
    """

    metrics: tuple[str, ...]
    label: str
    scale: float
    height: Callable[[float], float]

    @property
    def axis(self) -> str:
        """The first metric's name in figures."""
        return f"test {self.label}{' [%]' if self.scale == 100 else ''}"


ACCURACY = Merit(("accuracy", "loss"), "accuracy", 100, lambda accuracy: accuracy)
"""Of members that classify."""
R2 = Merit(("r2", "loss"), "r2", 1, lambda r2: max(0.0, r2))
"""Of those that estimate numbers."""


class Price(NamedTuple):
    """What the members of a front cost.

    Attributes:
        name: of the second objective, as `result.json` has it.
        label: words for it.
        most: what is as dear as can be, where the front's area begins; 1 for a share.
    """

    name: str
    label: str
    most: float = 1.0

    @property
    def axis(self) -> str:
        """What figures call it."""
        return f"{self.label} [%]" if self.most == 1 else self.label

    @property
    def scale(self) -> float:
        """What it is times in figures."""
        return 100.0 if self.most == 1 else 1.0

    def shown(self, paid: float) -> str:
        """As a table has it."""
        return f"{paid:.4f}" if self.most == 1 else f"{paid:,.0f}"


class Front(NamedTuple):
    """Members from the least of the second objective to the most, and what each is worth.

    Attributes:
        save: saves them in the folder of their run.
        points: of each, as `result.json` holds them: the second objective by its name, `found`, and `metrics` by split.
    """

    save: Callable[[Path], None]
    points: list[dict[str, Any]]


def judge_front(
    archive: Archive, cost: str, judge: Callable[[Population], list[Metrics]], varying: str | None = None
) -> Front:
    """Judges the members of an archive. The test set is used here, and once.

    Args:
        archive: of two objectives, the second being minus what is paid.
        cost: what that is called.
        judge: what each of the members `[n, ...]` is worth.
        varying: the entry of the champion's params that they are; None if they are params as a whole.
    """
    paid = -np.asarray(archive.objectives)[:, 1]
    order = np.argsort(paid, kind="stable")[: int(np.isfinite(paid).sum())]
    members = jax.tree.map(jnp.asarray, pop.take(archive.members, jnp.asarray(order)))
    saved = members if varying is None else {varying: members}
    return Front(
        lambda folder: save_front(folder, saved),
        [
            {cost: float(paid[i]), "found": int(archive.found[i]), "metrics": own}
            for i, own in zip(order, judge(members), strict=True)
        ],
    )


def by_criterion(
    criterion: Criterion, outputs: Callable[[Member, jax.Array], jax.Array], dataset: Dataset, chunk: int
) -> Callable[[Population], list[Metrics]]:
    """Judges members by what they say of examples, all of them in one program.

    Args:
        criterion: what outputs are for.
        outputs: `(member, x [rows, ...]) -> [rows, k]`; normalisation included.
        dataset: all three sets.
        chunk: members at once, at most.
    """

    def judge(members: Population) -> list[Metrics]:
        def finished(x: jax.Array) -> jax.Array:
            of_each = evaluate(lambda member: criterion.finish(outputs(member, x)), members, chunk)
            return jnp.swapaxes(of_each, 0, 1)

        metrics: list[Metrics] = [{} for _ in range(pop.size(members))]
        for name in SPLITS:
            split = getattr(dataset, name)
            said = in_rows(finished, split.x)
            for i, own in enumerate(metrics):
                own[name] = criterion.measure(said[:, i], split.y)
        return metrics

    return judge


def front_report(fronts: Mapping[str, Front], price: Price, merit: Merit = ACCURACY) -> Report:
    """What a run says of its front beside its control's, and the front itself, for `predict` to read.

    Args:
        fronts: by name: the experiment's own, its control's, and perhaps others.
        price: the second objective.
        merit: the first one.
    """
    own, control, *_ = fronts
    points = {name.replace("_", " "): front.points for name, front in fronts.items()}
    areas = {name: _area(of, price, merit) for name, of in points.items()}
    said = ", ".join(f"{name} {area:.4f}" for name, area in areas.items())
    return Report(
        {"front": fronts[own].points, "control_front": fronts[control].points, "hypervolume": areas},
        [
            f"The front: {merit.label} against {price.label}. Validation data chose its members, the test set was used "
            f"once, for this table; `--front` of `jevo.predict` takes a number of its first column.\n\n"
            f"{_table(fronts[own].points, price, merit)}",
            f"Area that the front dominates, of test {merit.label} against {price.label} (1 is all of it): {said}.",
        ],
        {},
        {
            CSV: lambda path: atomic_write(path, _csv(points, price.name, merit)),
            "front": lambda path: fronts[own].save(path.parent),
        },
    )


def front_figures(saved: Saved, price: Price, merit: Merit) -> dict[str, Callable[[Path], str]]:
    """The fronts of a finished run, as its folder has them."""
    caption = f"The front, and that of the control: test {merit.label} against {price.label}."
    return {"front.png": captioned(caption, draw_front, saved, price, merit)}


def draw_front(path: Path, saved: Saved, price: Price, merit: Merit) -> None:
    """The fronts of all who have one, from `front.csv`."""
    file, metric = saved.folder / CSV, f"test_{merit.metrics[0]}"
    if not file.exists():
        raise InputError(f"{file} is not there: it is drawn from that")
    points: dict[str, tuple[list[float], list[float]]] = {}
    for row in csv.DictReader(io.StringIO(read_file(file).decode())):
        xs, ys = points.setdefault(row["contestant"], ([], []))
        xs.append(price.scale * float(row[price.name]))
        ys.append(merit.scale * float(row[metric]))
    # Not all who compete have a front, but the first ones do, in their order.
    fronts = dict(zip(entries(saved.result), points.values(), strict=False))
    plots.front(path, fronts, price.axis, merit.axis)


def _area(points: list[dict[str, Any]], price: Price, merit: Merit) -> float:
    objectives = [
        [merit.height(one["metrics"]["test"][merit.metrics[0]]), -one[price.name] / price.most] for one in points
    ]
    return float(hypervolume(jnp.array(objectives), jnp.array([0.0, -1.0])))


def _table(points: list[dict[str, Any]], price: Price, merit: Merit) -> str:
    shown = [("validation", merit.metrics[0]), *(("test", name) for name in merit.metrics)]
    head = ["front", price.name, *(f"{split} {name}" for split, name in shown), "generation"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for number, one in enumerate(points, start=1):
        values = [f"{one['metrics'][split][name]:.4f}" for split, name in shown]
        lines.append(
            "| " + " | ".join([str(number), price.shown(one[price.name]), *values, f"{one['found']:,}"]) + " |"
        )
    return "\n".join(lines)


def _csv(points: Mapping[str, list[dict[str, Any]]], cost: str, merit: Merit) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = [(split, name) for split in SPLITS for name in merit.metrics]
    writer.writerow(["contestant", "front", cost, "generation", *(f"{split}_{name}" for split, name in metrics)])
    for who, of in points.items():
        for number, one in enumerate(of, start=1):
            values = [one["metrics"][split][name] for split, name in metrics]
            writer.writerow([who, number, one[cost], one["found"], *values])
    return text.getvalue()
