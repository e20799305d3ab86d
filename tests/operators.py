"""A row for every operator that jevo.genetics exports: how it is made, and what it does."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import jax
import numpy as np
from hypothesis import strategies as st

from jevo import bits, genetics
from jevo.types import Axis, Cross, Mutate
from tests.members import KINDS, genes, members, seeds

NUMBERS = ("float", "int")
SWITCHES = ("bool", "bits")


def other(member):
    """A member of the same structure, of which every gene is another."""

    def change(leaf):
        if bits.is_bits(leaf):
            return bits.flip(leaf, bits.prefix(leaf.shape, leaf.size))
        return ~leaf if leaf.dtype == bool else 1 - leaf

    return jax.tree.map(change, member, is_leaf=bits.is_bits)


def exported(*kinds):
    """The factories, by name, that are annotated to return one of these: `Select`, `Cross`, `Mutate`.

    Raises:
        AssertionError: if an exported function does not say what it returns, as none could tell then.
    """
    functions = {name: getattr(genetics, name) for name in genetics.__all__}
    hints = {name: get_type_hints(f) for name, f in functions.items() if inspect.isfunction(f)}
    silent = [name for name, hint in hints.items() if "return" not in hint]
    assert silent == []
    return {name: functions[name] for name, hint in hints.items() if hint["return"] in kinds}


class Mutation(NamedTuple):
    """A row of the suite: a mutation, and what it does.

    Attributes:
        factory: the export.
        make: the mutation, from the factory, a rate at which it changes nothing if it is 0, and a member.
        kinds: of the genes it works on.
        becomes: all that a gene array may turn into, from itself, that of the other member, and the rate; None for
            anything.
        touched: share of its genes that a member of ones loses at a rate; None where that is not so simple.
    """

    factory: Callable[..., Mutate]
    make: Callable[..., Mutate] = lambda factory, rate, member: factory(rate)
    kinds: tuple[str, ...] = KINDS
    becomes: Callable[..., tuple] | None = lambda genes, other, rate: (np.zeros_like(genes),)
    touched: Callable[[float], float] | None = lambda rate: rate

    def __call__(self, rate, member):
        return self.make(self.factory, rate, member)


def reset_of(factory, rate, member):
    return factory(rate, lambda key: other(member))


MUTATIONS = {
    "flip": Mutation(genetics.flip, kinds=SWITCHES, becomes=lambda genes, other, rate: (~genes,)),
    "redraw": Mutation(
        genetics.redraw,
        lambda factory, rate, member: factory(rate, 0.7),
        SWITCHES,
        becomes=None,
        touched=lambda rate: 0.3 * rate,
    ),
    "reset": Mutation(genetics.reset, reset_of, becomes=lambda genes, other, rate: (other,)),
    "zero": Mutation(genetics.zero),
    "prune": Mutation(genetics.prune, kinds=("float",), touched=None),
    "gaussian": Mutation(genetics.gaussian, lambda factory, rate, member: factory(0.5, rate), ("float",), becomes=None),
    "perturb": Mutation(
        genetics.perturb,
        lambda factory, rate, member: factory(1 + rate),
        ("float",),
        becomes=lambda genes, other, rate: (genes * np.float32(1 + rate), genes * np.float32(1 / (1 + rate))),
        touched=None,
    ),
    "step": Mutation(
        genetics.step,
        lambda factory, rate, member: factory(rate, 2),
        NUMBERS,
        becomes=lambda genes, other, rate: (genes + genes.dtype.type(2), genes - genes.dtype.type(2)),
    ),
    "chain": Mutation(
        genetics.chain,
        lambda factory, rate, member: factory(genetics.zero(rate), reset_of(genetics.reset, rate, member)),
        becomes=lambda genes, other, rate: (np.zeros_like(genes), other),
        # What is zeroed may be reset as well; to a zero, so that it counts either way.
        touched=lambda rate: 1 - (1 - rate) ** 2,
    ),
    "route": Mutation(genetics.route, lambda factory, rate, member: factory(layer_0=genetics.zero(rate))),
}


def per(grain):
    return lambda factory, rate: factory(rate, per=grain)


def followed(first, second):
    """The first member, with all that has the form of its layer 0 from the second."""
    form = lambda part: (jax.tree.structure(part), [leaf.shape for leaf in jax.tree.leaves(part)])  # noqa: E731
    return {name: (second if form(first[name]) == form(first["layer_0"]) else first)[name] for name in first}


HIDDEN = (Axis(("layer_0", "kernel"), 1), Axis(("layer_0", "bias"), 0), Axis(("layer_1", "kernel"), 0))
"""The symmetry of `networks`."""


def networks(count):
    """A tuple of `count` networks with five hidden units."""

    def made(*seed):
        first = {"kernel": genes("float", (4, 5), [*seed, 0]), "bias": genes("float", (5,), [*seed, 1])}
        return {"layer_0": first, "layer_1": {"kernel": genes("float", (5, 3), [*seed, 2])}}

    return seeds.map(lambda seed: tuple(made(seed, i) for i in range(count)))


class Crossover(NamedTuple):
    """A row of the suite: a crossover, and what it does to two parents.

    Attributes:
        factory: the export.
        make: the crossover, from the factory and the rate of the second parent's genes.
        rated: whether there is such a rate.
        all_second: the child at rate 1, of both parents.
        blends: whether a child's number lies between those of its parents, rather than being one of them.
        as_second: what the child inherits of the second parent, of both.
        parents: strategy of a tuple of so many.
    """

    factory: Callable[..., Cross]
    make: Callable[..., Cross] = lambda factory, rate: factory(rate)
    rated: bool = True
    all_second: Callable[..., Any] = lambda first, second: second
    blends: bool = False
    as_second: Callable[..., Any] = lambda first, second: second
    parents: Callable[[int], st.SearchStrategy] = lambda count: members(count=count)

    def __call__(self, rate):
        return self.make(self.factory, rate)


CROSSOVERS = {
    "uniform": Crossover(genetics.uniform),
    "uniform, neuron": Crossover(genetics.uniform, per("neuron")),
    "uniform, layer": Crossover(genetics.uniform, per("layer")),
    "average": Crossover(genetics.average, blends=True),
    "one_point": Crossover(genetics.one_point, lambda factory, rate: factory(), rated=False),
    "clone": Crossover(genetics.clone, lambda factory, rate: factory(), all_second=lambda first, second: first),
    "route": Crossover(
        genetics.route,
        lambda factory, rate: factory(layer_0=genetics.uniform(rate)),
        all_second=lambda first, second: {**first, "layer_0": second["layer_0"]},
    ),
    "follow": Crossover(
        genetics.follow,
        lambda factory, rate: factory(genetics.uniform(rate), lambda member: member["layer_0"]),
        all_second=followed,
    ),
    "aligned": Crossover(
        genetics.aligned,
        lambda factory, rate: factory(genetics.uniform(rate), [HIDDEN]),
        all_second=lambda first, second: genetics.align(first, second, [HIDDEN]),
        as_second=lambda first, second: genetics.align(first, second, [HIDDEN]),
        parents=networks,
    ),
}
MIXES = {genetics.pull, genetics.exchange}
"""Of all members together; their suite is `test_mixing`. By their types alone they would be mutations."""
PACKED = sorted(set(CROSSOVERS) - {"aligned"})
"""Crossovers of packed genes, too: units are matched by their weights."""
