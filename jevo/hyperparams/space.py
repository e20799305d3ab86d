"""The space of hyperparameter genomes: what can be chosen.

A genome has two forms. *Encoded*, it is a small pytree that `jevo.genetics` breeds: an int32 scalar is an index into a
choice's values, a float32 scalar in [0, 1] is a position in a range. *Decoded*, it is plain Python, as in
`{"optimizer": "adam", "conv": [{"units": 64, "kernel": 3}, {"units": 16, "kernel": 5}]}`.

Every gene has its leaf in the encoded tree, always, so that any two genomes can mate. A leaf is *active* if the decoded
genome has it: its layer is one of those that there are, and the gene's condition holds.
"""

import json
import math
import operator
import reprlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo.errors import InputError, suggestion
from jevo.genetics.genes import map_genes
from jevo.hyperparams.genes import Choice, Gene, Real, Scalar, word
from jevo.types import Key, Member

MAX_LAYERS = 100
"""Of one group: each is a part of the genome, whether active or not."""

Genome = Mapping[str, Any]
"""A decoded genome."""
Condition = Mapping[str, tuple[Scalar, ...]]
"""When a gene exists: each of the genes that it names, which are choices, does and has one of these values. For a gene
of a group they are of the same layer, or else at the top."""
Path = tuple[str, ...]
"""Where a leaf is in the encoded tree."""


@dataclass(frozen=True)
class Group:
    """Genes that repeat for each of some layers. Decoded as a list of dicts, one for each active layer.

    Encoded as `{"layers": index, "0": {gene: ...}, "1": ...}` up to the most layers, or, if they are all the same, as
    `{"layers": index, "each": {gene: ...}}`.

    Attributes:
        layers: how many are active; its values are integers >= 0.
        genes: of a layer, by name.
        same: whether all layers share one set of genes.
        conditions: of those genes that do not always exist.
    """

    layers: Choice
    genes: dict[str, Gene]
    same: bool = False
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """Where the genes of layers are in the encoded tree."""
        if not self.genes:
            return ()
        return ("each",) if self.same else tuple(map(str, range(self.max_layers)))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many layers there may be."""
        return tuple(value for value in self.layers.values if isinstance(value, int))

    @property
    def max_layers(self) -> int:
        """Layers, at the most."""
        return max(self.counts)

    @property
    def takes(self) -> str:
        """Words for its value."""
        return f"a list of {self.layers.takes} layers"

    def tree(self) -> dict[str, Any]:
        """The encoded tree, with its gene for each leaf."""
        return {"layers": self.layers, **{row: dict(self.genes) for row in self.rows}}


class _Slot(NamedTuple):
    """The gene of a leaf, and when the leaf is active: those at these paths are, and have one of these values."""

    gene: Gene
    when: tuple[tuple[Path, frozenset[Scalar]], ...]

    def active(self, values: Mapping[Path, Scalar]) -> bool:
        """Whether it is, by the values of those before it that are."""
        return all(path in values and values[path] in taken for path, taken in self.when)


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

    A gene may exist under a condition; where it does not hold, the gene is no part of the genome:

    >>> momentum = {"values": [0.0, 0.9], "when": {"optimizer": "sgd"}}
    >>> space = parse_space({"optimizer": ["adam", "sgd"], "momentum": momentum}, "example")
    >>> list(space.genomes())
    [{'optimizer': 'adam'}, {'optimizer': 'sgd', 'momentum': 0.0}, {'optimizer': 'sgd', 'momentum': 0.9}]

    Attributes:
        genes: by name.
        conditions: of those genes and groups that do not always exist.
    """

    genes: dict[str, Gene | Group]
    conditions: Mapping[str, Condition] = field(default_factory=dict)

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

    def active(self, genome: Member) -> Any:
        """Which leaves of an encoded genome are active: a tree like it, bool `[]` each. Works in `jit` and `vmap`."""
        found: dict[Path, Any] = {}
        holds: dict[tuple[Path, frozenset[Scalar]], Any] = {}
        for path, slot in self._slots.items():
            for parent, taken in slot.when:
                if (parent, taken) not in holds:
                    known: Any = self._slots[parent].gene
                    indices = [i for i, value in enumerate(known.values) if value in taken]
                    here = (_at(genome, parent) == np.asarray(indices, np.int32)).any()
                    holds[parent, taken] = found[parent] & here
            found[path] = reduce(operator.and_, (holds[condition] for condition in slot.when), np.bool_(True))
        return jax.tree.structure(self.tree()).unflatten(found[path] for path in self.leaves())

    def built(self, choose: Callable[[Path, Gene], Scalar]) -> dict[str, Any]:
        """A decoded genome, gene by gene.

        Args:
            choose: `(path, gene) -> value` of a leaf; asked for those that are active, and only after those that decide
                whether they are.
        """
        values: dict[Path, Scalar] = {}
        for path, slot in self._slots.items():
            if slot.active(values):
                values[path] = choose(path, slot.gene)
        return self._decoded(values)

    def decode(self, genome: Member) -> dict[str, Any]:
        """A genome as plain Python, on the host. Genes that are not active are left out."""
        host = jax.device_get(genome)
        return self.built(lambda path, gene: gene.decode(_at(host, path)))

    def encode(self, decoded: Genome) -> Member:
        """The inverse of `decode`: genes that are not active get their first value.

        Raises:
            InputError: if it is no genome of this space, naming the gene.
        """
        given = self._given(decoded)
        codes: dict[Path, jax.Array] = {}

        def choose(path: Path, gene: Gene) -> Scalar:
            name, of = self._named(path)
            if path not in given:
                raise InputError(f"gene {name} is missing; it takes {of.takes}")
            codes[path] = gene.encode(given.pop(path), f"{name}.layers" if isinstance(of, Group) else name)
            return gene.decode(codes[path])

        self.built(choose)
        for path in given:
            name, of = self._named(path)
            value = decoded[name] if isinstance(of, Group) else given[path]
            raise InputError(
                f"gene {name} is {reprlib.repr(value)}, but exists only when {self._words(path)}; leave it out"
            )
        leaves = (codes[path] if path in codes else gene.first() for path, gene in self.leaves().items())
        return jax.tree.structure(self.tree()).unflatten(leaves)

    def size(self) -> int | float:
        """How many distinct decoded genomes there are; inf with a `Real`."""
        asked: dict[Path, list[frozenset[Scalar]]] = defaultdict(list)
        last: dict[Path, Path] = {}
        for path, slot in self._slots.items():
            for parent, taken in slot.when:
                asked[parent].append(taken)
                last[parent] = path
        # How many ways there are to choose the genes so far, by those of their values that a later condition asks for.
        ways: dict[frozenset[tuple[Path, Scalar]], int] = {frozenset(): 1}
        for path, slot in self._slots.items():
            following = defaultdict[frozenset[tuple[Path, Scalar]], int](int)
            for known, count in ways.items():
                kept = frozenset((parent, value) for parent, value in known if last[parent] != path)
                if not slot.active(dict(known)):
                    following[kept] += count
                elif slot.gene.size() == math.inf:
                    return math.inf
                elif path not in last:
                    following[kept] += count * int(slot.gene.size())
                else:
                    for value, alike in _told_apart(slot.gene, asked[path]):
                        following[kept | {(path, value)}] += count * alike
            ways = following
        return sum(ways.values())

    def genomes(self) -> Iterator[Genome]:
        """Every decoded genome once, one at a time.

        Raises:
            InputError: if a gene is a `Real`.
        """
        for path, slot in self._slots.items():
            if isinstance(slot.gene, Real) and slot.gene.varies and all(taken for _, taken in slot.when):
                raise InputError(
                    f"gene {path[0]}{f'.{path[-1]}' if path[1:] else ''} is {slot.gene.takes}, but grid search takes "
                    "genes that are lists of values; give it a list or a step"
                )
        return self._genomes()

    def _genomes(self) -> Iterator[Genome]:
        slots = list(self._slots.items())
        values: dict[Path, Scalar] = {}
        # Of each leaf the values that are still to come: nothing large is held, nothing recurs.
        coming: list[Iterator[Scalar]] = []
        while True:
            for path, slot in slots[len(coming) :]:
                coming.append(iter(_values(slot.gene) if slot.active(values) else ()))
                values.update((path, value) for value in islice(coming[-1], 1))
            yield self._decoded(values)
            # The last leaf that has another value takes it; those after it begin anew.
            while coming:
                path, _ = slots[len(coming) - 1]
                values.pop(path, None)
                values.update((path, value) for value in islice(coming[-1], 1))
                if path in values:
                    break
                coming.pop()
            else:
                return

    @cached_property
    def _slots(self) -> dict[Path, _Slot]:
        """Every leaf, in the order of the space but for one thing: a leaf comes right after the last of those that its
        condition asks for, so that `size` need not remember these for long."""
        found: dict[Path, _Slot] = {}
        for name, gene in self.genes.items():
            own = [((other,), frozenset(values)) for other, values in self.conditions.get(name, {}).items()]
            if not isinstance(gene, Group):
                found[name,] = _Slot(gene, tuple(own))
                continue
            found[name, "layers"] = _Slot(gene.layers, tuple(own))
            for i, row in enumerate(gene.rows):
                there = ((name, "layers"), frozenset[Scalar](count for count in gene.counts if count > i))
                for inner, of in gene.genes.items():
                    condition = gene.conditions.get(inner, {})
                    asks = [
                        ((name, row, other) if other in gene.genes else (other,), frozenset(values))
                        for other, values in condition.items()
                    ]
                    found[name, row, inner] = _Slot(of, (there, *asks))
        return _parents_first(found)

    def _decoded(self, values: Mapping[Path, Scalar]) -> dict[str, Any]:
        """A decoded genome of the values of its active leaves."""
        genome: dict[str, Any] = {}
        for name, gene in self.genes.items():
            if not isinstance(gene, Group):
                genome |= {name: values[name,]} if (name,) in values else {}
            elif (name, "layers") in values:
                count: Any = values[name, "layers"]
                rows = ["each" if gene.same else str(i) for i in range(count)]
                genome[name] = [
                    {inner: values[name, row, inner] for inner in gene.genes if (name, row, inner) in values}
                    for row in rows
                ]
        return genome

    def _given(self, decoded: Any) -> dict[Path, Any]:
        """The values of a decoded genome by the paths of their leaves; of the names, all are known, and none is missing
        that always exists."""
        _require_names(decoded, self.genes, self.conditions, "")
        found: dict[Path, Any] = {}
        for name, value in decoded.items():
            gene = self.genes[name]
            if not isinstance(gene, Group):
                found[name,] = value
                continue
            if not isinstance(value, list | tuple):
                raise InputError(f"gene {name} is {reprlib.repr(value)}, but takes {gene.takes}")
            found[name, "layers"] = len(value)
            for i, layer in enumerate(value):
                _require_names(layer, gene.genes, gene.conditions, f"{name}.{i}.")
                found |= {(name, "each" if gene.same else str(i), inner): one for inner, one in layer.items()}
            if gene.same and any(layer != value[0] for layer in value):
                raise InputError(
                    f"gene {name} has layers that differ, but takes equal ones, as its space says same: true"
                )
        return found

    def _named(self, path: Path) -> tuple[str, Gene | Group]:
        """What a decoded genome calls a leaf, and what it takes there; a group's number of layers is the group."""
        gene = self.genes[path[0]]
        if isinstance(gene, Group) and len(path) == 3:
            return f"{path[0]}.{'0' if gene.same else path[1]}.{path[2]}", gene.genes[path[2]]
        return path[0], gene

    def _words(self, path: Path) -> str:
        """The condition of a leaf, as people read it."""
        gene = self.genes[path[0]]
        condition = self.conditions.get(path[0], {})
        if isinstance(gene, Group) and len(path) == 3:
            condition = gene.conditions[path[2]]
        return " and ".join(f"{other} is {' or '.join(map(word, values))}" for other, values in condition.items())


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


def _require_names(values: Any, genes: Mapping[str, Gene | Group], conditions: Collection[str], prefix: str) -> None:
    if not isinstance(values, Mapping):
        what = f"gene {prefix[:-1]}" if prefix else "a genome"
        raise InputError(f"{what} is {reprlib.repr(values)}, but takes a value for each gene by name")
    for name in values:
        if name not in genes:
            raise InputError(f"gene {prefix}{name} is unknown; {suggestion(str(name), genes)}")
    for name, gene in genes.items():
        if name not in values and name not in conditions:
            raise InputError(f"gene {prefix}{name} is missing; it takes {gene.takes}")


def _parents_first(slots: Mapping[Path, _Slot]) -> dict[Path, _Slot]:
    """In their order, but each right after the last of those that it asks for."""
    children: dict[Path, list[Path]] = defaultdict(list)
    for path, slot in slots.items():
        for parent, _ in slot.when:
            children[parent].append(path)
    missing = {path: len(slot.when) for path, slot in slots.items()}
    waiting = [path for path in reversed(list(slots)) if not missing[path]]
    found: dict[Path, _Slot] = {}
    while waiting:
        path = waiting.pop()
        found[path] = slots[path]
        for child in reversed(children[path]):
            missing[child] -= 1
            if not missing[child]:
                waiting.append(child)
    return found


def _values(gene: Gene) -> Collection[Scalar]:
    """All of them; a `Real` that does not vary has one."""
    return (gene.decode(0),) if isinstance(gene, Real) else gene.values


def _told_apart(gene: Gene, asked: list[frozenset[Scalar]]) -> list[tuple[Scalar, int]]:
    """A value of each kind that conditions tell apart, and how many there are of its kind."""
    kinds: dict[tuple[bool, ...], list[Scalar]] = defaultdict(list)
    for value in _values(gene):
        kinds[tuple(value in taken for taken in asked)].append(value)
    return [(alike[0], len(alike)) for alike in kinds.values()]


def _at(tree: Any, path: Path) -> Any:
    return reduce(operator.getitem, path, tree)


def _prefixed(name: str, of: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{inner}": value for inner, value in of.items()}
