"""The space of hyperparameter genomes: what can be chosen.

A genome has two forms. *Encoded*, it is a small pytree that `jevo.genetics` breeds: an int32 scalar is an index into a
choice's values, a float32 scalar in [0, 1] is a position in a range. *Decoded*, it is plain Python, as in
`{"optimizer": "adam", "conv": [{"units": 64, "kernel": 3}, {"units": 16, "kernel": 5}]}`.
"""

import itertools
import json
import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jevo.errors import InputError, suggestion
from jevo.genetics.genes import map_genes
from jevo.hyperparams.genes import Choice, Gene, Real, Scalar
from jevo.types import Key, Member

MAX_LAYERS = 100
"""Of one group: each is a part of the genome, whether active or not."""

Genome = Mapping[str, Any]
"""A decoded genome."""


@dataclass(frozen=True)
class Group:
    """Genes that repeat for each of some layers. Decoded as a list of dicts, one for each active layer.

    Encoded as `{"layers": index, "0": {gene: ...}, "1": ...}` up to the most layers, or, if they are all the same, as
    `{"layers": index, "each": {gene: ...}}`.

    Attributes:
        layers: how many are active; its values are integers >= 0.
        genes: of a layer, by name.
        same: whether all layers share one set of genes.
    """

    layers: Choice
    genes: dict[str, Gene]
    same: bool = False

    @property
    def rows(self) -> tuple[str, ...]:
        """Where the genes of layers are in the encoded tree."""
        if not self.genes:
            return ()
        return ("each",) if self.same else tuple(map(str, range(self.max_layers)))

    @property
    def max_layers(self) -> int:
        """Layers, at the most."""
        return max(map(int, self.layers.values))

    @property
    def takes(self) -> str:
        """Words for its value."""
        return f"a list of {self.layers.takes} layers"

    def tree(self) -> dict[str, Any]:
        """The encoded tree, with its gene for each leaf."""
        return {"layers": self.layers, **{row: dict(self.genes) for row in self.rows}}

    def size(self) -> int | float:
        """How many distinct decoded lists there are."""
        each = _product(gene.size() for gene in self.genes.values())
        active = (min(int(count), 1 if self.same else self.max_layers) for count in self.layers.values)
        sizes = [_product([each] * count) for count in active]
        # An integer may be too large to be added to inf.
        return math.inf if math.inf in sizes else sum(sizes)

    def decode(self, part: Mapping[str, Any]) -> list[Genome]:
        """A dict for each active layer."""
        rows = ["each" if self.same else str(i) for i in range(int(self.layers.decode(part["layers"])))]
        return [{name: gene.decode(part[row][name]) for name, gene in self.genes.items()} for row in rows]

    def encode(self, value: Any, name: str) -> dict[str, Any]:
        """The inverse; an InputError names the gene at fault, with `name` before it."""
        if not isinstance(value, list | tuple):
            raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")
        layers = self.layers.encode(len(value), f"{name}.layers")
        parts = [_encode(self.genes, layer, f"{name}.{i}.") for i, layer in enumerate(value)]
        if self.same and any(layer != value[0] for layer in value):
            raise InputError(f"gene {name} has layers that differ, but takes equal ones, as its space says same: true")
        absent = {inner: gene.first() for inner, gene in self.genes.items()}
        rows = itertools.zip_longest(self.rows, parts[: len(self.rows)], fillvalue=absent)
        return {"layers": layers, **{str(row): part for row, part in rows}}


@dataclass(frozen=True)
class Space:
    """All genomes of a search: genes and groups of genes, by name.

    >>> from jevo.hyperparams import parse_space
    >>> space = parse_space({"lr": [0.1, 0.01], "dense": {"layers": [1, 2], "units": [16, 32, 64]}}, "example")
    >>> space.size()
    24
    >>> encoded = space.encode({"lr": 0.01, "dense": [{"units": 64}]})
    >>> space.decode(encoded)
    {'lr': 0.01, 'dense': [{'units': 64}]}
    """

    genes: dict[str, Gene | Group]

    def tree(self) -> dict[str, Any]:
        """The encoded tree, with its gene for each leaf."""
        return {name: gene.tree() for name, gene in self.genes.items()}

    def leaves(self) -> dict[tuple[str, ...], Gene]:
        """The gene of each encoded leaf, by its path and in the order of `jax.tree.leaves`."""
        flat: Any = jax.tree.leaves_with_path(self.tree())
        return {tuple(step.key for step in path): gene for path, gene in flat}

    def init(self, key: Key) -> Member:
        """An encoded genome, uniform over every leaf: every leaf int32 or float32 `[]`."""
        return map_genes(lambda key, gene: gene.draw(key), key, self.tree())

    def decode(self, genome: Member) -> dict[str, Any]:
        """A genome as plain Python, on the host. Genes of layers that are not active are left out."""
        host = jax.device_get(genome)
        return {name: gene.decode(host[name]) for name, gene in self.genes.items()}

    def encode(self, decoded: Genome) -> Member:
        """The inverse of `decode`: genes of layers that are not active get their first value.

        Raises:
            InputError: if it is no genome of this space, naming the gene.
        """
        return _encode(self.genes, decoded, "")

    def size(self) -> int | float:
        """How many distinct decoded genomes there are; inf with a `Real`."""
        return _product(gene.size() for gene in self.genes.values())

    def genomes(self) -> Iterator[Genome]:
        """Every decoded genome once, one at a time.

        Raises:
            InputError: if a gene is a `Real`.
        """
        genes: dict[str, Any] = {}
        for name, gene in self.genes.items():
            if not isinstance(gene, Group):
                genes[name] = gene
            elif gene.max_layers:
                genes |= _prefixed(name, gene.genes)
        for name, gene in genes.items():
            if isinstance(gene, Real) and gene.varies:
                raise InputError(
                    f"gene {name} is {gene.takes}, but grid search takes genes that are lists of values; "
                    "give it a list or a step"
                )
        return self._genomes()

    def _genomes(self) -> Iterator[Genome]:
        groups = {name: gene for name, gene in self.genes.items() if isinstance(gene, Group)}
        # For given numbers of layers, all active genes are one flat product: nothing large is held, nothing recurs.
        for counts in itertools.product(*(group.layers.values for group in groups.values())):
            active = {name: int(count) for name, count in zip(groups, counts, strict=True)}
            slots: list[Gene] = []
            for name, gene in self.genes.items():
                if isinstance(gene, Group):
                    slots += list(gene.genes.values()) * (min(active[name], 1) if gene.same else active[name])
                else:
                    slots.append(gene)
            options = [gene.values if isinstance(gene, Choice) else (gene.decode(0),) for gene in slots]
            for values in itertools.product(*options):
                yield self._built(active, iter(values))

    def _built(self, active: Mapping[str, int], values: Iterator[Scalar]) -> dict[str, Any]:
        """A decoded genome of the values of its active genes, in the order of the space."""
        genome: dict[str, Any] = {}
        for name, gene in self.genes.items():
            if not isinstance(gene, Group):
                genome[name] = next(values)
            elif gene.same and active[name]:
                shared = {inner: next(values) for inner in gene.genes}
                genome[name] = [dict(shared) for _ in range(active[name])]
            else:
                genome[name] = [{inner: next(values) for inner in gene.genes} for _ in range(active[name])]
        return genome


def identity(decoded: Genome) -> str:
    """Canonical JSON of a decoded genome: equal for two genomes of a space exactly if they are equal."""
    return json.dumps(decoded, sort_keys=True, separators=(",", ":"), allow_nan=False)


def flatten(decoded: Genome) -> dict[str, Scalar]:
    """A decoded genome as the columns of a table: `optimizer`, `conv.layers`, `conv.0.units`, ..."""
    columns: dict[str, Scalar] = {}
    for name, value in decoded.items():
        if isinstance(value, list):
            columns[f"{name}.layers"] = len(value)
            for i, layer in enumerate(value):
                columns |= _prefixed(f"{name}.{i}", layer)
        else:
            columns[name] = value
    return columns


def _encode(genes: Mapping[str, Gene | Group], values: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        what = f"gene {prefix[:-1]}" if prefix else "a genome"
        raise InputError(f"{what} is {reprlib.repr(values)}, but takes a value for each gene by name")
    for name in values:
        if name not in genes:
            raise InputError(f"gene {prefix}{name} is unknown; {suggestion(str(name), genes)}")
    for name, gene in genes.items():
        if name not in values:
            raise InputError(f"gene {prefix}{name} is missing; it takes {gene.takes}")
    return {name: gene.encode(values[name], f"{prefix}{name}") for name, gene in genes.items()}


def _product(sizes: Iterable[int | float]) -> int | float:
    sizes = list(sizes)
    # An integer may be too large to be multiplied by inf.
    return math.inf if math.inf in sizes else math.prod(sizes)


def _prefixed(name: str, of: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{inner}": value for inner, value in of.items()}
