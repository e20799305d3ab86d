"""The files, pictures and report of a hyperparameter search."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jevo.data.datasets import Dataset
from jevo.data.files import write_whole
from jevo.hyperparams import Architecture, flatten
from jevo.runs import diagrams, report
from jevo.runs.contest import Judged
from jevo.runs.record import Run
from jevo.runs.report import Panel

ALWAYS = (
    "search",
    "number",
    "generation",
    "parents",
    "score",
    "trained",
    "seconds",
    "epochs",
    "steps",
    "reason",
    "repairs",
)
"""Columns of `genomes.csv` before the genes."""


def metrics_file(name: str, own: bool) -> str:
    """Where a search's generations are written."""
    return "metrics.jsonl" if own else f"{name}.jsonl"


def describe(genome: Mapping[str, Any]) -> str:
    """A genome in a line: `dense 2 x (768, relu, dropout 0.2), adam`."""
    parts = []
    for name, value in genome.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            parts.append(str(value) if isinstance(value, str) else f"{name} {value}")
            continue
        layers = [_layer(layer) for layer in value]
        if len(layers) > 1 and len(set(layers)) == 1:
            parts.append(f"{name} {len(layers)} x ({layers[0]})")
        else:
            parts.append(f"{name} " + " ".join(f"({layer})" for layer in layers) if layers else f"no {name}")
    return ", ".join(parts)


def _layer(genes: Mapping[str, Any]) -> str:
    units, rest = genes.get("units"), {k: v for k, v in genes.items() if k != "units"}
    words = [str(v) if isinstance(v, str) else f"{k} {v}" for k, v in rest.items()]
    return ", ".join([*([str(units)] if units is not None else []), *words])


def write(
    run: Run,
    result: dict[str, Any],
    dataset: Dataset,
    found: Mapping[str, Any],
    judged: Judged,
    of: Architecture,
) -> None:
    """Write the tables, draw the figures and finish the run.

    Args:
        run: the run.
        result: what `result.json` shall hold.
        dataset: its data.
        found: each search, the experiment's own first.
        judged: the champion.
        of: its network.
    """
    own = next(iter(found))
    write_tables(run.folder, found)
    figures = {}
    report.curves(run.folder / "curves.png", [_by_generation(found), _by_trainings(found)])
    figures["curves.png"] = (
        "Best and mean of the population by generation, and the best so far by genomes trained (validation score)."
    )
    trials = [trial for trial in found[own].trials if not trial.score.reason]
    once = {trial.number: trial for trial in trials if trial.trained}.values()
    genes = by_gene([trial.genome for trial in once])
    diagrams.score_by_gene(run.folder / "genes.png", genes, [trial.score.value for trial in once], "validation score")
    figures["genes.png"] = "The score of every genome trained, by the value of each gene."
    number = result["champion"]["number"]
    if any(trial.parents for trial in found[own].trials):
        people = [diagrams.Person(t.number, t.generation, t.parents, t.score.value, "") for t in found[own].trials]
        diagrams.family(run.folder / "family.png", people, number)
        figures["family.png"] = "The champion's ancestors."
    diagrams.network(run.folder / "network.png", describe(result["champion"]["genome"]), layers(of))
    figures["network.png"] = "The champion, layer by layer."
    report.confusion(run.folder / "confusion.png", dataset.test.y, judged.predicted, dataset.classes)
    figures["confusion.png"] = "The champion's confusion matrix on the test set."
    run.finish(result, figures, notes(result, found))


def write_tables(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `genomes.csv`, a row for every proposal of every search, and a line a generation for each search."""
    rows = []
    for name, one in found.items():
        for trial in one.trials:
            details = trial.score.details
            rows.append(
                {
                    "search": name,
                    "number": trial.number,
                    "generation": trial.generation,
                    "parents": " ".join(map(str, trial.parents)),
                    "score": "" if trial.score.reason else round(trial.score.value, 6),
                    "trained": trial.trained,
                    "seconds": trial.score.seconds,
                    "epochs": " ".join(map(str, details.get("epochs", []))),
                    "steps": details.get("steps", ""),
                    "reason": trial.score.reason,
                    "repairs": "; ".join(details.get("repairs", [])),
                    **flatten(trial.genome),
                }
            )
        lines = [generation_line(generation) for generation in one.generations]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(folder / metrics_file(name, name == next(iter(found))), text)
    columns = dict.fromkeys([*ALWAYS, *(column for row in rows for column in row)])
    table = io.StringIO()
    writer = csv.DictWriter(table, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / "genomes.csv", table.getvalue())


def by_gene(genomes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each gene, one for each genome, None where it lacks the gene: `optimizer`, `conv.0.units`, ...

    A gene that the layers of a group share in every genome is one: `dense.units`.
    """
    rows = []
    for genome in genomes:
        groups = {name: value for name, value in genome.items() if isinstance(value, list)}
        shared = {f"{name}.{gene}": value for name, layers in groups.items() for gene, value in _shared(layers).items()}
        rows.append({"shared": shared, "own": flatten(genome)})
    names = dict.fromkeys(name for row in rows for name in row["shared"])
    common = [name for name in names if all(name in row["shared"] or _absent(name, row["own"]) for row in rows)]
    found: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for row in rows for name in row["own"]):
        group, _, rest = name.partition(".")
        gene = f"{group}.{rest.partition('.')[2]}"
        if gene in common:
            found[gene] = [row["shared"].get(gene) for row in rows]
        else:
            found[name] = [row["own"].get(name) for row in rows]
    return found


def _shared(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The genes in which all layers agree."""
    return {
        gene: value
        for gene, value in (layers[0] if layers else {}).items()
        if all(one[gene] == value for one in layers)
    }


def _absent(name: str, own: Mapping[str, Any]) -> bool:
    """Whether a genome has no layer of the group of a gene."""
    return own.get(f"{name.partition('.')[0]}.layers") == 0


def generation_line(generation: Any) -> dict[str, Any]:
    """A generation as a line of metrics holds it."""
    best, mean = (value if value == value else None for value in (generation.best, generation.mean))
    return {
        "generation": generation.number,
        "best": best,
        "mean": mean,
        "validation": best,
        "champion": generation.champion,
        "trained": generation.trained,
        "plan": generation.plan,
    }


def layers(of: Architecture) -> list[diagrams.Layer]:
    """A network as a drawing has it."""
    found = [diagrams.Layer("input", of.shape, "")]
    for i, conv in enumerate(of.conv):
        note = f"stride {conv.stride}, {'same' if conv.same else 'valid'}, {of.activation[i]}"
        found.append(diagrams.Layer(f"conv {conv.kernel}x{conv.kernel}", (*conv.output, conv.units), note))
        drop = f"dropout {of.dropout[i]:g}" if of.dropout[i] else ""
        if conv.pool:
            found.append(diagrams.Layer("pool 2x2", (*conv.pooled, conv.units), drop))
    for i, units in enumerate(of.dense, start=len(of.conv)):
        drop = f", dropout {of.dropout[i]:g}" if of.dropout[i] else ""
        found.append(diagrams.Layer("dense", (units,), of.activation[i] + drop))
    return [*found, diagrams.Layer("output", (of.classes,), "softmax")]


def notes(result: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Paragraphs for the report."""
    champion = result["champion"]
    own = next(iter(found))
    said = [
        f"Champion: {describe(champion['genome'])}; validation score {champion['score']:.4f}, found in generation "
        f"{champion['generation']}, weights of epoch {', '.join(map(str, champion['best_epoch'])) or 'unknown'}."
    ]
    for name, one in found.items():
        best, last = result["champions"][name], one.generations[-1]
        said.append(
            f"{name.replace('_', ' ')}: best score {best['score']:.4f} ({describe(best['genome'])}); mean of the last "
            f"generation {last.mean:.4f}; {sum(generation.trained for generation in one.generations):,} genomes were "
            "trained for it, beside those that were known."
        )
    failed = [trial for trial in found[own].trials if trial.score.reason and trial.trained]
    if failed:
        reasons = "; ".join(f"{trial.score.reason} ({describe(trial.genome)})" for trial in failed[:5])
        said.append(f"{len(failed)} genomes failed: {reasons}{' ...' if len(failed) > 5 else ''}.")
    if champion["repairs"]:
        said.append(f"Repaired in the champion: {'; '.join(champion['repairs'])}.")
    return said


def _by_generation(found: Mapping[str, Any]) -> Panel:
    curves = {}
    for name, one in found.items():
        for what in ("best", "mean"):
            xs = [generation.number for generation in one.generations]
            curves[f"{name.replace('_', ' ')}, {what}"] = xs, [getattr(g, what) for g in one.generations]
    return Panel("generation", "validation score of the population", curves)


def _by_trainings(found: Mapping[str, Any]) -> Panel:
    curves = {}
    for name, one in found.items():
        best, seen, xs, ys = float("-inf"), set(), [], []
        for trial in one.trials:
            text = json.dumps(trial.genome, sort_keys=True)
            if text not in seen and not trial.score.reason:
                seen.add(text)
                best = max(best, trial.score.value)
                xs.append(len(seen))
                ys.append(best)
        curves[name.replace("_", " ")] = xs, ys
    return Panel("genomes scored", "best validation score so far", curves)
