"""The linear layers of a network, found in its program: any network of matrix products and convolutions.

A layer is a product of something that depends on the examples and an array of the params, perhaps with a bias. Where
others walk through the program, they may do as they like at each layer.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.extend.core import Jaxpr, Literal, Var

from jevo.networks.jaxprs import called, is_elementwise
from jevo.types import Member

_PRODUCTS = ("dot_general", "conv_general_dilated")
_SHAPES = (
    "broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "rev", "slice", "squeeze",
    "transpose",
)  # fmt: skip
"""Primitives that only move numbers."""


class Factors(NamedTuple):
    """A weight that is never built: the sum over its rank of outer products.

    Attributes:
        contracted: its factor over the axes that the product sums over, in their order, `[..., rank]`.
        free: its factor over the other axes, in their order, `[..., rank]`.
    """

    contracted: jax.Array
    free: jax.Array


class Source(NamedTuple):
    """Where an array of a layer comes from.

    Attributes:
        leaf: the how-many-eth of the leaves of the params, from 0.
        moved: makes the layer's array of it: of the same numbers, in perhaps another shape or order.
    """

    leaf: int
    moved: Callable[[jax.Array], jax.Array]


class Layer(NamedTuple):
    """A linear layer, as its turn comes.

    Attributes:
        number: it is the how-many-eth, from 0.
        weight: its array, as the product takes it, and its bias, or None.
        inputs: what it is multiplied with, `[batch, ...]`.
        product: `((weight, bias), inputs) -> outputs`, linear in either. If `contracted` is known, the weight may be
            given as `Factors`.
        first: whether the inputs are the same whatever was done at other layers.
        sources: of the weight, and of the bias, or None.
        contracted: the axes of the weight that the product sums over; None for a product in groups.
    """

    number: int
    weight: tuple[jax.Array, jax.Array | None]
    inputs: jax.Array
    product: Callable[[tuple[Any, jax.Array | None], jax.Array], jax.Array]
    first: bool
    sources: tuple[Source, Source | None]
    contracted: tuple[int, ...] | None

    @property
    def outputs(self) -> jax.Array:
        """What it gives, as it is."""
        return self.product(self.weight, self.inputs)

    def taken(self, leaves: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array | None]:
        """Its weight and bias in other params, of which these are the leaves: as its product takes them."""
        weight, bias = self.sources
        return weight.moved(leaves[weight.leaf]), None if bias is None else bias.moved(leaves[bias.leaf])


At = Callable[[Layer], jax.Array]
"""`layer -> outputs`: what is to be taken for the outputs of a layer."""
Seen = Callable[[int, jax.Array], None]
"""`(number, values)`: all that the rest of the network sees of a layer's outputs, where one function of each of them is
all: its activations. It is not called for other layers."""


def walk(
    apply: Callable[[Member, jax.Array], jax.Array],
    params: Member,
    x: jax.Array,
    at: At = lambda layer: layer.outputs,
    seen: Seen = lambda number, values: None,
) -> jax.Array:
    """`apply(params, x)`, where `at` says what each linear layer gives.

    Args:
        apply: the network.
        params: its params.
        x: examples `[batch, ...]`.
        at: called for each layer in turn.
        seen: called with the activations that follow a layer, where they are all that becomes of its outputs.

    Raises:
        ValueError: naming the params that are no weight or bias of such a layer, or are changed before they become one.

    >>> from jevo.networks import mlp
    >>> network = mlp([4, 3, 2])
    >>> params = network.init(jax.random.key(0))
    >>> walk(network.apply, params, jnp.ones((5, 4)), lambda layer: 2 * layer.outputs).shape
    (5, 2)
    """
    paths, treedef = jax.tree.flatten_with_path(params)
    leaves = [leaf for _, leaf in paths]
    traced = jax.make_jaxpr(lambda leaves, x: apply(treedef.unflatten(leaves), x))(leaves, x)
    walker = _Walker(at, seen)
    given = [_Value(leaf, frozenset([i])) for i, leaf in enumerate(leaves)] + [_Value(x)]
    (found,) = walker.run(traced.jaxpr, [_Value(const, fixed=True) for const in traced.consts], given)
    result = walker.forced(found).array
    # Used otherwise, too, a weight would do what nobody at its layer sees.
    only = walker.used - walker.mixed
    if missed := [jax.tree_util.keystr(path) for i, (path, _) in enumerate(paths) if i not in only]:
        raise ValueError(
            f"the params {', '.join(missed[:5])} are no weights or biases of linear layers; "
            "a network for this is a chain of matrix products and convolutions, each perhaps with a bias"
        )
    return result


@dataclass(frozen=True)
class _Value:
    """A value of the program.

    Attributes:
        array: it; None while `pending`.
        params: which of the params it is made of, if of nothing else.
        plain: whether these were only moved.
        moved: makes it of the one of the params that it is, if it is one that was only moved.
        fixed: whether it is a constant.
        touched: whether a layer has had a part in it.
        pending: the layer whose outputs it is, before anybody has said what these are.
        of: the layer whose outputs it is, after that.
    """

    array: Any = None
    params: frozenset[int] = frozenset()
    plain: bool = True
    moved: Callable[[jax.Array], jax.Array] = lambda leaf: leaf
    fixed: bool = False
    touched: bool = False
    pending: "_Pending | None" = None
    of: int | None = None


class _Pending(NamedTuple):
    product: Callable[[Any, jax.Array], jax.Array]
    weight: _Value
    bias: _Value | None
    inputs: _Value
    contracted: tuple[int, ...] | None


class _Walker:
    """Evaluates a program, and calls `at` for each layer."""

    def __init__(self, at: At, seen: Seen):
        self.at, self.seen, self.number = at, seen, 0
        self.used, self.mixed = set(), set()

    def run(self, jaxpr: Jaxpr, consts: Sequence[_Value], given: Sequence[_Value]) -> list[_Value]:
        values: dict[Var, _Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *given], strict=True))
        uses = Counter(v for eqn in jaxpr.eqns for v in {v for v in eqn.invars if not isinstance(v, Literal)})
        uses.update(v for v in jaxpr.outvars if not isinstance(v, Literal))

        def read(v: Any) -> _Value:
            return _Value(v.val, fixed=True) if isinstance(v, Literal) else values[v]

        for eqn in jaxpr.eqns:
            read_alone = [not isinstance(v, Literal) and uses[v] == 1 for v in eqn.invars]
            found = self._evaluated(jaxpr, eqn, [read(v) for v in eqn.invars], read_alone)
            # What was pending is settled for all who read it.
            for v, value in zip(eqn.invars, found[0], strict=True):
                if not isinstance(v, Literal):
                    values[v] = value
            values.update(zip(eqn.outvars, found[1], strict=True))
        return [read(v) for v in jaxpr.outvars]

    def forced(self, value: _Value) -> _Value:
        """The value, after `at` has said what it is, if it was pending."""
        if value.pending is None:
            return value
        product, weight, bias, inputs, contracted = value.pending
        for part in (weight, bias):
            if part is not None and not part.plain:
                raise ValueError(
                    "the weights of a linear layer are computed from the params; they must be arrays of them"
                )
        self.used |= weight.params | (bias.params if bias else frozenset())
        arrays = weight.array, bias.array if bias else None
        number, self.number = self.number, self.number + 1
        sources = _source(weight), _source(bias) if bias else None
        outputs = self.at(Layer(number, arrays, inputs.array, product, not inputs.touched, sources, contracted))
        return _Value(outputs, touched=True, of=number)

    def _evaluated(
        self, jaxpr: Jaxpr, eqn: Any, given: list[_Value], alone: list[bool]
    ) -> tuple[list[_Value], list[_Value]]:
        """What the arguments have become, and the results."""
        if (pending := self._pending(eqn, given, alone)) is not None:
            return given, [_Value(touched=True, pending=pending)]
        # A value that is given twice is one.
        forced = {id(value): self.forced(value) for value in dict(zip(map(id, given), given, strict=True)).values()}
        given = [forced[id(value)] for value in given]
        if (closed := called(eqn)) is not None:
            # A function of a layer's outputs alone, such as an activation, is seen as a whole.
            inside = [replace(value, of=None) for value in given]
            found = self.run(closed.jaxpr, [_Value(const, fixed=True) for const in closed.consts], inside)
        else:
            found = self._bound(jaxpr, eqn, given)
        if is_elementwise(eqn):
            self._see(given, alone, found)
        return given, found

    def _pending(self, eqn: Any, given: list[_Value], alone: list[bool]) -> _Pending | None:
        """The layer that the results of an equation are the outputs of, if they are."""
        name = eqn.primitive.name
        if name in _PRODUCTS and bool(given[0].params) != bool(given[1].params):
            place = 0 if given[0].params else 1
            weight, inputs = given[place], self.forced(given[1 - place])
            if inputs.fixed:
                return None

            contracted = _contracted(eqn, place)

            def product(weights: Any, inputs: jax.Array) -> jax.Array:
                if isinstance(weights[0], Factors):
                    return _thin(eqn, place, contracted, weights[0], inputs)
                pair = (weights[0], inputs) if place == 0 else (inputs, weights[0])
                return eqn.primitive.bind(*pair, **eqn.params)

            return _Pending(product, weight, None, inputs, contracted)
        if _moves(eqn) and given[0].pending and alone[0] and len(given) == 1:
            layer = given[0].pending
            moved = lambda w, a: eqn.primitive.bind(layer.product(w, a), **eqn.params)  # noqa: E731
            return layer._replace(product=moved)
        if name in ("add", "add_any"):
            for place in (0, 1):
                layer, other = given[place].pending, given[1 - place]
                if layer and alone[place] and other.params and layer.bias is None:

                    def added(weights: Any, inputs: jax.Array, layer: _Pending = layer) -> jax.Array:
                        found = layer.product((weights[0], None), inputs)
                        return found if weights[1] is None else eqn.primitive.bind(found, weights[1], **eqn.params)

                    return layer._replace(product=added, bias=other)
        return None

    def _bound(self, program: Any, eqn: Any, given: list[_Value]) -> list[_Value]:
        # A program of this equation alone.
        variables = {v: value.array for v, value in zip(eqn.invars, given, strict=True) if not isinstance(v, Literal)}
        alone = program.replace(constvars=[], invars=list(variables), outvars=eqn.outvars, eqns=[eqn])
        found = eval_jaxpr(alone, (), *variables.values())
        of = [value.params for value in given if not value.fixed]
        if not all(of):  # With what depends on the examples, in another way than as a layer.
            self.mixed.update(*of)
        from_params = bool(of) and all(of)
        plain = _moves(eqn) and all(value.plain for value in given)
        touched = any(value.touched for value in given)
        moved = lambda leaf: eqn.primitive.bind(given[0].moved(leaf), **eqn.params)  # noqa: E731
        form = _Value(
            params=frozenset().union(*of) if from_params else frozenset(),
            plain=plain if from_params else True,
            moved=moved if from_params and plain else lambda leaf: leaf,
            fixed=not of,
            touched=touched,
        )
        return [replace(form, array=array) for array in found]

    def _see(self, given: list[_Value], alone: list[bool], found: list[_Value]) -> None:
        """Tell of activations: of outputs of a layer that nobody else reads, a single value each, and nothing else."""
        own = [(value, one) for value, one in zip(given, alone, strict=True) if not value.fixed]
        if len(own) != 1 or len(found) != 1 or found[0].array is None:
            return
        (value, one), (result,) = own[0], found
        same = jnp.shape(result.array) == jnp.shape(value.array) and jnp.issubdtype(result.array.dtype, jnp.floating)
        if one and same and value.of is not None:
            self.seen(value.of, result.array)


def _moves(eqn: Any) -> bool:
    """Whether an equation only moves numbers; one that makes integers of them rounds."""
    inexact = all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in (*eqn.invars, *eqn.outvars))
    return eqn.primitive.name in _SHAPES and (inexact or eqn.primitive.name != "convert_element_type")


def _source(value: _Value) -> Source:
    (leaf,) = value.params
    return Source(leaf, value.moved)


def _contracted(eqn: Any, place: int) -> tuple[int, ...] | None:
    """The axes of a weight that an equation sums over, in order, if it has no groups."""
    axes = range(len(eqn.invars[place].aval.shape))
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive.name == "dot_general":
        (summed, batch) = numbers
        return None if batch[place] else tuple(axis for axis in axes if axis in summed[place])
    if place == 0 or eqn.params["feature_group_count"] > 1 or eqn.params["batch_group_count"] > 1:
        return None
    return tuple(axis for axis in axes if axis != numbers.rhs_spec[0])


def _thin(eqn: Any, place: int, contracted: tuple[int, ...] | None, weight: Factors, inputs: jax.Array) -> jax.Array:
    """What an equation gives of a weight in factors: of as many outputs as its rank, and these then spread out."""
    if contracted is None:
        raise ValueError("a product in groups takes no weight in factors")
    numbers, last = eqn.params["dimension_numbers"], weight.free.ndim - 1
    if eqn.primitive.name == "dot_general":
        kind = {name: eqn.params[name] for name in ("precision", "preferred_element_type")}
        own, others = numbers[0][place], numbers[0][1 - place]
        along = others, tuple(contracted.index(axis) for axis in own)
        inner = jax.lax.dot_general(inputs, weight.contracted, (along, ((), ())), **kind)
        outputs = jax.lax.dot_general(inner, weight.free, (((inner.ndim - 1,), (last,)), ((), ())), **kind)
        # The weight's axes come first where it does.
        axes = tuple(range(outputs.ndim))
        return outputs if place == 1 else jnp.transpose(outputs, axes[inner.ndim - 1 :] + axes[: inner.ndim - 1])
    first = jnp.moveaxis(weight.contracted, -1, numbers.rhs_spec[0])
    inner, features = eqn.primitive.bind(inputs, first, **eqn.params), numbers.out_spec[1]
    outputs = jax.lax.dot_general(
        inner,
        weight.free,
        (((features,), (last,)), ((), ())),
        precision=eqn.params["precision"] and eqn.params["precision"][0],
    )
    return jnp.moveaxis(outputs, -1, features)
