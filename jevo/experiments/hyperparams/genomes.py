"""Genomes as text, as columns of a table, and as a drawing has them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jevo.data.files import read_file
from jevo.errors import InputError
from jevo.hyperparams import flatten
from jevo.hyperparams.genes import word
from jevo.mixed import Architecture
from jevo.plots import Layer

TABLE = "genomes.csv"
"""Where a run keeps every genome that was proposed."""
ALWAYS = (
    "search",
    "number",
    "generation",
    "parents",
    "score",
    "trained",
    "seconds",
    "epochs_trained",
    "steps",
    "until",
    "parameters",
    "flops",
    "reason",
    "repairs",
)
"""Columns of the table before the genes, and the names of none: `epochs` is one."""


def brief(genome: Mapping[str, Any]) -> str:
    """A genome in a few words, of layers only their units: `dense 768-768, adam, lr 0.001`."""
    parts = []
    for name, value in genome.items():
        if isinstance(value, list):
            units = "-".join(str(layer.get("units", "?")) for layer in value)
            parts.append(f"{name} {units}" if value else f"no {name}")
        else:
            number = f"{value:.3g}" if isinstance(value, float) else word(value)
            parts.append(value if isinstance(value, str) else f"{name} {number}")
    return ", ".join(parts)


def describe(genome: Mapping[str, Any]) -> str:
    """A genome in a line: `dense 2 x (768, relu, dropout 0.2), adam`."""
    parts = []
    for name, value in genome.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            parts.append(value if isinstance(value, str) else f"{name} {word(value)}")
            continue
        layers = [_layer(layer) for layer in value]
        if len(layers) > 1 and len(set(layers)) == 1:
            parts.append(f"{name} {len(layers)} x ({layers[0]})")
        else:
            parts.append(f"{name} " + " ".join(f"({layer})" for layer in layers) if layers else f"no {name}")
    return ", ".join(parts)


def _layer(genes: Mapping[str, Any]) -> str:
    units, rest = genes.get("units"), {k: v for k, v in genes.items() if k != "units"}
    words = [v if isinstance(v, str) else f"{k} {word(v)}" for k, v in rest.items()]
    return ", ".join([*([str(units)] if units is not None else []), *words])


def table(found: Mapping[str, Any]) -> str:
    """`genomes.csv`: a row for every proposal of every search, by name; empty where a genome lacks a gene."""
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
                    "epochs_trained": " ".join(map(str, details.get("epochs", []))),
                    "steps": details.get("steps", ""),
                    "until": trial.until or "",
                    "parameters": details.get("parameters", ""),
                    "flops": details.get("flops", ""),
                    "reason": trial.score.reason,
                    "repairs": "; ".join(details.get("repairs", [])),
                    **_columns(trial.genome),
                }
            )
    columns = dict.fromkeys([*ALWAYS, *(column for row in rows for column in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class Row(NamedTuple):
    """A row of `genomes.csv`.

    Attributes:
        number: among the proposals of its search, from 0.
        generation: that proposed it.
        parents: numbers.
        score: NaN if its training failed.
        trained: whether it was trained for this proposal.
        spent: epochs that it was trained for, the mean of its repeats.
        genome: as text and numbers tell it.
    """

    number: int
    generation: int
    parents: tuple[int, ...]
    score: float
    trained: bool
    spent: float
    genome: dict[str, Any]


def read_table(path: Path) -> dict[str, list[Row]]:
    """The rows of `genomes.csv`, by search.

    Raises:
        InputError: if there is none, or it is another file.
    """
    if not path.exists():
        raise InputError(f"{path} is not there: it is drawn from that")
    found: dict[str, list[Row]] = {}
    try:
        reader = csv.DictReader(io.StringIO(read_file(path).decode(), newline=""))
        if lacking := set(ALWAYS) - set(reader.fieldnames or ()):
            raise ValueError(f"no column {min(lacking)}")
        for row in reader:
            epochs = [int(epochs) for epochs in row["epochs_trained"].split()]
            genes = {name: _value(text) for name, text in row.items() if name not in ALWAYS and text}
            found.setdefault(row["search"], []).append(
                Row(
                    int(row["number"]),
                    int(row["generation"]),
                    tuple(map(int, row["parents"].split())),
                    float(row["score"] or "nan"),
                    row["trained"] == "True",
                    sum(epochs) / max(len(epochs), 1),
                    _nested(genes),
                )
            )
    except (LookupError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(f"{path} is no table of genomes, or damaged ({type(error).__name__}: {error})") from None
    return found


def _value(text: str) -> bool | int | float | str:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _nested(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    genome: dict[str, Any] = {}
    for name, value in columns.items():
        group, *rest = name.split(".", 2)
        if rest == ["layers"]:
            genome[group] = [{} for _ in range(value)]
        elif rest:
            genome[group][int(rest[0])][rest[1]] = value
        else:
            genome[group] = value
    return genome


def _columns(genome: Mapping[str, Any]) -> dict[str, Any]:
    """Its genes as the columns of a table, where None would be a gene that it lacks."""
    return {name: word(value) if value is None else value for name, value in flatten(genome).items()}


def by_gene(genomes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each gene, one for each genome, None where it lacks the gene: `optimizer`, `conv.0.units`, ...

    A gene that the layers of a group share in every genome is one: `dense.units`. A value that is None is `null`.
    """
    rows = []
    for genome in genomes:
        groups = {name: _shared(value) for name, value in genome.items() if isinstance(value, list)}
        shared = {f"{name}.{gene}": value for name, genes in groups.items() for gene, value in genes.items()}
        rows.append({"shared": _columns(shared), "own": _columns(genome)})
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
        if all(gene in one and one[gene] == value for one in layers)
    }


def _absent(name: str, own: Mapping[str, Any]) -> bool:
    """Whether no layer of a genome has a gene."""
    group, _, gene = name.partition(".")
    columns = (column.split(".") for column in own)
    return not any(parts[0] == group and parts[2:] == [gene] for parts in columns)


def layers(of: Architecture, last: str = "softmax") -> list[Layer]:
    """A network as a drawing has it; `last` is what becomes of its outputs."""
    found = [Layer("input", of.shape, "")]
    for i, conv in enumerate(of.conv):
        note = f"stride {conv.stride}, {'same' if conv.same else 'valid'}, {of.activation[i]}"
        found.append(Layer(f"conv {conv.kernel}x{conv.kernel}", (*conv.output, conv.units), note))
        drop = f"dropout {of.dropout[i]:g}" if of.dropout[i] else ""
        if conv.pool:
            found.append(Layer("pool 2x2", (*conv.pooled, conv.units), drop))
    for i, units in enumerate(of.dense, start=len(of.conv)):
        drop = f", dropout {of.dropout[i]:g}" if of.dropout[i] else ""
        found.append(Layer("dense", (units,), of.activation[i] + drop))
    return [*found, Layer("output", (of.classes,), last)]
