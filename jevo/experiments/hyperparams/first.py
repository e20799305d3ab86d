"""Genomes that a search begins with, from a file: what another run has found, or a list of one's own."""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from jevo.data.files import expanded, read_file
from jevo.errors import InputError, shortened, suggestion
from jevo.experiments.hyperparams.genomes import ALWAYS
from jevo.hyperparams import Genome, Group, Space, identity
from jevo.hyperparams.genes import Choice, Gene, Scalar, word
from jevo.hyperparams.space import Path


class _Row(NamedTuple):
    """A genome in a file.

    Attributes:
        line: where it is, from 1.
        decoded: reads it, or raises what is wrong with it.
        search: that proposed it, or nothing.
        score: of it; equal for all where the file has none.
    """

    line: int
    decoded: Callable[[], Genome]
    search: str = ""
    score: float = 0.0


def read_first(path: FilePath, space: Space, most: int) -> list[Genome]:
    """The genomes of a file that a search begins with: of its first search the best, each once, those that failed left
    out; where it says nothing of a search or of scores, all in their order.

    Args:
        path: `genomes.csv` or `genomes.jsonl` of a run, a `.csv` with a column for each gene as these have it, or a
            `.jsonl` with a genome on each line.
        space: of the genomes.
        most: as many at the most.

    Raises:
        InputError: if it cannot be read or holds no genomes, or for one of those that is no genome of the space, naming
            its line and the gene.
    """
    path, shown = expanded(path), shortened(path, 300)
    takes = "genomes.csv or genomes.jsonl of another run, or a .jsonl file with a genome on each line"
    if path.suffix not in (".csv", ".jsonl"):
        raise InputError(f"setting first is {shown}, but takes {takes}")
    try:
        text = read_file(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"setting first is {shown}, which cannot be read ({reason}); it takes {takes}") from None
    try:
        rows = list(_of_csv(text, space) if path.suffix == ".csv" else _of_lines(text, space, shown))
    except csv.Error as error:  # A cell of more letters than any has.
        raise InputError(f"setting first is {shown}, which is no CSV ({error}); it takes {takes}") from None
    own = [row for row in rows if row.search == rows[0].search and math.isfinite(row.score)]
    found: dict[str, Genome] = {}
    for row in sorted(own, key=lambda row: -row.score):
        if len(found) == most:
            break
        try:
            genome = row.decoded()
        except InputError as error:
            raise InputError(f"setting first is {shown}, but in line {row.line} {error}") from None
        found.setdefault(identity(genome), genome)
    if not found:
        raise InputError(f"setting first is {shown}, which has no genome with a score; it takes {takes}")
    return list(found.values())


def _of_lines(text: str, space: Space, shown: str) -> Iterator[_Row]:
    """A genome a line, or what a run has written of one: at several rungs, the furthest, which comes last."""
    rows: dict[str, _Row] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(
                f"setting first is {shown}, but line {number} is no JSON; give it a genome on each line"
            ) from None
        genome, search, score = entry, "", 0.0
        if isinstance(entry, dict) and isinstance(entry.get("genome"), dict):
            genome, search, score = entry["genome"], str(entry.get("search", "")), _number(entry.get("value"))
        rows[f"{search} {json.dumps(genome, sort_keys=True)}"] = _Row(
            number, lambda genome=genome: space.decode(space.encode(genome)), search, score
        )
    yield from rows.values()


def _of_csv(text: str, space: Space) -> Iterator[_Row]:
    """The rows of `genomes.csv`."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    apart = {*ALWAYS, *({"epochs"} - set(space.genes))}  # Of earlier runs, what was trained may be in it.
    for row in reader:
        columns = {str(name): str(value) for name, value in row.items() if name not in apart and value}
        score = math.nan if row.get("reason") else _number(row.get("score") or 0)
        yield _Row(reader.line_num, partial(_unflattened, columns, space), row.get("search") or "", score)


def _unflattened(columns: Mapping[str, str], space: Space) -> Genome:
    """The inverse of `flatten`, for columns as text."""
    left: dict[str, dict[str, str]] = defaultdict(dict)
    for column, text in columns.items():
        left[_leaf(column, space)][column] = text

    def choose(path: Path, gene: Gene) -> Scalar:
        given = left.pop(".".join(path), {})
        if not given and isinstance(gene, Choice) and "" in gene.values:
            return ""
        if not given:
            raise InputError(f"gene {'.'.join(path)} is missing; it takes {gene.takes}")
        (column, text), *others = given.items()
        for other, differs in others:
            if differs != text:
                raise InputError(
                    f"gene {other} is {differs}, but takes {text} as {column}: the space has same layers there"
                )
        return gene.decode(gene.encode(_value(text, gene), column))

    genome, known = space.built(choose), [".".join(path) for path in space.leaves()]
    for name, given in left.items():
        for column, text in given.items():
            if name not in known:
                raise InputError(
                    f"gene {column} is unknown; {suggestion(column, [of.replace('.each.', '.0.') for of in known])}"
                )
            raise InputError(
                f"gene {column} is {text}, but does not exist with the values of the others; leave it empty"
            )
    return genome


def _leaf(column: str, space: Space) -> str:
    """Where the gene of a column is, in the encoded tree: `dense.each.units` where all layers share them."""
    name, *rest = column.split(".")
    group = space.genes.get(name)
    shared = isinstance(group, Group) and group.same and len(rest) == 2
    return f"{name}.each.{rest[1]}" if shared else column


def _value(text: str, gene: Gene) -> Scalar:
    """The value of a gene that is written so; the text itself if there is none."""
    if isinstance(gene, Choice) and (found := [value for value in gene.values if word(value) == text]):
        return found[0]
    number = _number(text)
    return text if math.isnan(number) else int(number) if number.is_integer() else number


def _number(value: Any) -> float:
    """As a float; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
