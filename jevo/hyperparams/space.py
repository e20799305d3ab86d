"""The space of hyperparameter genomes: what can be chosen, and how genetics breeds it.

A genome has two forms. *Encoded*, it is a small pytree that `jevo.genetics` breeds: an int32 scalar is an index into a
choice's values, a float32 scalar in [0, 1] is a position in a range. *Decoded*, it is plain Python, as in
`{"optimizer": "adam", "conv": [{"units": 64, "kernel": 3}, {"units": 16, "kernel": 5}]}`.
"""

import itertools
import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo.genetics.genes import map_genes
from jevo.runs.config import suggestion
from jevo.types import InputError, Key, Member, Mutate, Rate

MOST_VALUES = 100_000
"""Of one choice."""
MOST_LAYERS = 100
"""Of one group: each is a part of the genome, whether active or not."""

Scalar = str | int | float | bool
Genome = dict[str, Any]
"""A decoded genome."""


@dataclass(frozen=True)
class Choice:
    """A gene that is one of some values; one value is a fixed setting. Encoded as an index into `values`, int32."""

    values: tuple[Scalar, ...]

    @property
    def ordered(self) -> bool:
        """Whether values have neighbours: two or more numbers, ascending."""
        if len(self.values) < 2 or any(isinstance(value, str | bool) for value in self.values):
            return False
        return all(a < b for a, b in itertools.pairwise(self.values))  # pyright: ignore[reportOperatorIssue]

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return len(self.values) > 1

    @property
    def takes(self) -> str:
        """Words for what can be chosen."""
        shown = [repr(value) if value == "" else str(value) for value in self.values]
        if len(shown) > 12:
            return f"one of {', '.join(shown[:3])}, ... {shown[-1]}"
        return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)

    def tree(self) -> "Choice":
        """The gene, as it is one leaf of the encoded tree."""
        return self

    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def decode(self, index: Any) -> Scalar:
        """The value at an int32 `[]`."""
        return self.values[int(index)]

    def encode(self, value: Any, name: str) -> jax.Array:
        """The index of a value, int32 `[]`; an InputError names the gene `name` if there is no such value."""
        # Python takes True for 1.
        switch = isinstance(value, bool | np.bool_)
        for index, known in enumerate(self.values if np.isscalar(value) else ()):
            if value == known and isinstance(known, bool) == switch:
                return jnp.asarray(index, jnp.int32)
        raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")


@dataclass(frozen=True)
class Real:
    """A gene that is a number from `low` to `high`, to 6 significant digits. Encoded as a position in [0, 1], float32.

    Attributes:
        low, high: both included.
        log: whether equal steps of the position multiply the number by equal factors; then `low` > 0.
    """

    low: float
    high: float
    log: bool = False

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return self.low < self.high

    @property
    def takes(self) -> str:
        """Words for the range."""
        return f"a number from {self.low} to {self.high}"

    def tree(self) -> "Real":
        """The gene, as it is one leaf of the encoded tree."""
        return self

    def size(self) -> int | float:
        """How many values there are: taken to be inf, although rounding leaves fewer."""
        return math.inf if self.varies else 1

    def decode(self, position: Any) -> float:
        """The number at a float32 `[]`."""
        start, end = self._scale(self.low), self._scale(self.high)
        value = start + float(position) * (end - start)
        return rounded(math.exp(value) if self.log else value, self.low, self.high)

    def encode(self, value: Any, name: str) -> jax.Array:
        """The nearest position, float32 `[]`; an InputError names the gene `name` if it is out of range."""
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {self.takes}")
        start, end = self._scale(self.low), self._scale(self.high)
        share = (self._scale(float(value)) - start) / (end - start) if start < end else 0.0
        return jnp.asarray(min(max(share, 0.0), 1.0), jnp.float32)

    def _scale(self, value: float) -> float:
        return math.log(value) if self.log else float(value)


Gene = Choice | Real


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
        return ("each",) if self.same else tuple(map(str, range(self.most)))

    @property
    def most(self) -> int:
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
        active = (min(int(count), 1 if self.same else self.most) for count in self.layers.values)
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
        absent = {inner: _first(gene) for inner, gene in self.genes.items()}
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
        return map_genes(_drawn, key, self.tree())

    def decode(self, genome: Member) -> Genome:
        """A genome as plain Python, on the host. Genes of layers that are not active are left out."""
        host = jax.device_get(genome)
        return {name: gene.decode(host[name]) for name, gene in self.genes.items()}

    def encode(self, decoded: Mapping[str, Any]) -> Member:
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
            elif gene.most:
                genes |= _prefixed(name, gene.genes)
        for name, gene in genes.items():
            if isinstance(gene, Real) and gene.varies:
                raise InputError(
                    f"gene {name} is {gene.takes}, but brute force takes genes that are lists of values; "
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

    def _built(self, active: Mapping[str, int], values: Iterator[Scalar]) -> Genome:
        """A decoded genome of the values of its active genes, in the order of the space."""
        genome: Genome = {}
        for name, gene in self.genes.items():
            if not isinstance(gene, Group):
                genome[name] = next(values)
            elif gene.same and active[name]:
                shared = {inner: next(values) for inner in gene.genes}
                genome[name] = [dict(shared) for _ in range(active[name])]
            else:
                genome[name] = [{inner: next(values) for inner in gene.genes} for _ in range(active[name])]
        return genome


def identity(decoded: Mapping[str, Any]) -> str:
    """Canonical JSON of a decoded genome: equal for two genomes of a space exactly if they are equal."""
    return json.dumps(decoded, sort_keys=True, separators=(",", ":"), allow_nan=False)


def flatten(decoded: Mapping[str, Any]) -> dict[str, Scalar]:
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


def stepped(space: Space, rate: Rate, nominal: bool = True) -> Mutate:
    """Move each gene a little, with probability `rate`.

    A value of an ordered choice moves to a neighbour, up or down at even odds, and from an end inward; a `Real` moves
    by normal noise, a tenth of its range in standard deviation, reflected at the ends.

    Args:
        space: of the genomes.
        rate: per gene.
        nominal: whether a choice without order is drawn anew among its other values, or else left alone.
    """

    def change(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
        keeps = isinstance(gene, Choice) and not gene.ordered and not nominal
        if keeps or not gene.varies:
            return value
        where, move = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(where, rate), _moved(move, value, gene), value)

    tree = space.tree()
    return lambda key, genome: map_genes(change, key, genome, tree)


def redrawn(space: Space, rate: Rate) -> Mutate:
    """With probability `rate`, draw one gene anew among its other values: any that has more than one, at equal odds.

    Source: Harvey, neural-network-genetic-algorithm, 2017.
    """
    tree = space.tree()
    genes, treedef = jax.tree.flatten(tree)
    numbers = treedef.unflatten(itertools.accumulate(int(gene.varies) for gene in genes))
    count = sum(gene.varies for gene in genes)

    def change(chosen: jax.Array, key: Key, value: jax.Array, gene: Gene, number: int) -> jax.Array:
        return jnp.where(chosen == number, _other(key, value, gene), value) if gene.varies else value

    def mutate(key: Key, genome: Member) -> Member:
        where, which, fresh = jax.random.split(key, 3)
        # Genes that vary are numbered from 1: 0 is none of them.
        chosen = jax.random.bernoulli(where, rate) * jax.random.randint(which, (), 1, count + 1)
        return map_genes(partial(change, chosen), fresh, genome, tree, numbers)

    return mutate


def _first(gene: Gene) -> jax.Array:
    return jnp.zeros((), jnp.int32 if isinstance(gene, Choice) else jnp.float32)


def _drawn(key: Key, gene: Gene) -> jax.Array:
    if isinstance(gene, Choice):
        return jax.random.randint(key, (), 0, len(gene.values), jnp.int32)
    return jax.random.uniform(key, (), jnp.float32)


def _other(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """Uniform over a gene's other values."""
    if isinstance(gene, Choice):
        return (value + jax.random.randint(key, (), 1, len(gene.values), jnp.int32)) % len(gene.values)
    return _drawn(key, gene)


def _moved(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """A value near this one, or any other if there is no order."""
    if isinstance(gene, Real):
        there = jnp.mod(value + 0.1 * jax.random.normal(key, (), jnp.float32), 2)
        return 1 - jnp.abs(1 - there)
    if not gene.ordered:
        return _other(key, value, gene)
    last = len(gene.values) - 1
    there = value + jnp.where(jax.random.bernoulli(key), 1, -1)
    return jnp.where(value == 0, 1, jnp.where(value == last, last - 1, there))


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


def rounded(value: float, low: float, high: float) -> float:
    """To 6 significant digits, so that it reads well and JSON gives it back, and within the range."""
    return float(min(max(float(f"{value:.6g}"), low), high))


def _product(sizes: Any) -> int | float:
    sizes = list(sizes)
    # An integer may be too large to be multiplied by inf.
    return math.inf if math.inf in sizes else math.prod(sizes)


def _prefixed(name: str, of: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{inner}": value for inner, value in of.items()}
