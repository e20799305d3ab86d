"""What a program does to the axes of its arrays: which of them run over the same units, and which keep their order.

If the units of parts that are not pinned are renumbered in all arrays that they run through, each equation still holds:
its rule joins what it lines up, and pins what it tells apart. So a rule may pin more than it must, and never less; a
primitive without a rule pins all.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, Literal, Var

from jevo.networks.axes import Axes, Parts
from jevo.networks.jaxprs import ELEMENTWISE, called, live

Form = list[Parts]
"""The axes of an array."""


class Propagation:
    """A walk through a program.

    Attributes:
        axes: what is known of its arrays' axes.
        read: the arguments that an equation reads, in the order in which the first does, by what `id` has of their
            forms.
    """

    def __init__(self) -> None:
        self.axes = Axes()
        self.read: dict[int, None] = {}

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], given: Sequence[Form]) -> list[Form]:
        """The forms of the results of a program.

        Args:
            jaxpr: the program.
            consts: its constants.
            given: the forms of its arguments.
        """
        values: dict[Var, Form] = dict(zip(jaxpr.constvars, map(self.constant, consts), strict=True))
        values.update(zip(jaxpr.invars, given, strict=True))

        def form(v: Any) -> Form:
            return self.constant(v.val) if isinstance(v, Literal) else values[v]

        for eqn in live(jaxpr):
            values.update(zip(eqn.outvars, self._results(eqn, [form(v) for v in eqn.invars]), strict=True))
        return [form(v) for v in jaxpr.outvars]

    def fresh(self, value: Any, pinned: bool = False) -> Form:
        """Axes that are joined with no others yet, of a value or of what JAX knows of its shape."""
        return [self.axes.new(size, pinned) for size in np.shape(value)]

    def constant(self, value: Any) -> Form:
        """A constant's axes: those it is the same along are free."""
        if not np.ndim(value):
            return []
        try:
            array = np.asarray(value)
        except TypeError:  # Random keys.
            return self.fresh(value, pinned=True)
        return [
            self.axes.new(
                size, pinned=not np.array_equal(array, np.roll(array, 1, axis), equal_nan=array.dtype.kind == "f")
            )
            for axis, size in enumerate(array.shape)
        ]

    def pin(self, *forms: Form) -> None:
        """All axes of these arrays keep their order."""
        self.axes.pin(*(axis for form in forms for axis in form))

    def _results(self, eqn: Any, given: list[Form]) -> list[Form]:
        if (closed := called(eqn)) is not None:
            return self.run(closed.jaxpr, closed.consts, given)
        self.read.update(dict.fromkeys(map(id, given)))
        rule = _RULES.get(eqn.primitive.name)
        empty = any(0 in np.shape(v.aval) for v in (*eqn.invars, *eqn.outvars))
        found = None if rule is None or empty else rule(self, eqn, given)
        if found is None:
            self.pin(*given)
            found = [self.fresh(v.aval, pinned=True) for v in eqn.outvars]
        return found

    def joined(self, forms: Sequence[Form]) -> Form:
        """The form of arrays that go together place by place: numbers, and axes of length 1, go with anything."""
        whole = [form for form in forms if form]
        joined = []
        for axes in zip(*whole, strict=True):
            first, *others = [axis for axis in axes if axis] or [()]
            for other in others:
                self.axes.join(first, other)
            joined.append(first)
        return joined

    def in_blocks(self, axis: Parts, unit: int) -> Parts:
        """The inner of `[blocks, unit]`, which an axis is; pinned, if its parts are others. The blocks are pinned."""
        pieces = self.axes.cut([axis], [self.axes.size(axis) // unit, unit])
        if pieces is None:
            self.axes.pin(axis)
            return self.axes.new(unit, pinned=True)
        self.axes.pin(pieces[0])
        return pieces[1]


Rule = Callable[[Propagation, Any, list[Form]], list[Form] | None]
"""`(walk, equation, forms of its arguments) -> forms of its results`; None if there is no rule for such a case."""


def _elementwise(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    return [walk.joined(given)] * len(eqn.outvars)


def _as_they_were(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    return given


def _dot_general(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    (summed, batch), (left, right) = eqn.params["dimension_numbers"], given
    for pairs in (summed, batch):
        for a, b in zip(*pairs, strict=True):
            walk.axes.join(left[a], right[b])
    free = [
        axis
        for form, own, along in zip(given, summed, batch, strict=True)
        for i, axis in enumerate(form)
        if i not in own and i not in along
    ]
    return [[left[a] for a in batch[0]] + free]


def _convolution(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form] | None:
    inputs, kernel = given
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    if eqn.params["batch_group_count"] != 1:
        return None
    batch, features, *places = (inputs[i] for i in numbers.lhs_spec)
    outputs, inner, *taps = (kernel[i] for i in numbers.rhs_spec)
    walk.pin(places, taps)
    # The inputs are [groups, of each], and the outputs [groups, of each].
    parts = walk.axes.cut([features], [groups, walk.axes.size(inner)])
    out_parts = walk.axes.cut([outputs], [groups, walk.axes.size(outputs) // groups])
    if parts is None or out_parts is None:
        return None
    walk.axes.join(parts[0], out_parts[0])
    walk.axes.join(parts[1], inner)
    found: Form = [()] * len(inputs)
    for i, axis in zip(numbers.out_spec, [batch, outputs], strict=False):
        found[i] = axis
    for i in numbers.out_spec[2:]:
        found[i] = walk.axes.new(eqn.outvars[0].aval.shape[i], pinned=True)
    return [found]


def _broadcast(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    found = walk.fresh(eqn.outvars[0].aval)
    for axis, place in zip(given[0], eqn.params["broadcast_dimensions"], strict=True):
        found[place] = axis or found[place]  # Of length 1, it is repeated.
    return [found]


def _iota(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    return [[walk.axes.new(size, i == eqn.params["dimension"]) for i, size in enumerate(eqn.outvars[0].aval.shape)]]


def _reshape(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form] | None:
    if eqn.params["dimensions"] is not None:
        return None
    pieces = walk.axes.cut(given[0], eqn.outvars[0].aval.shape)
    return None if pieces is None else [pieces]


def _transpose(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    return [[given[0][i] for i in eqn.params["permutation"]]]


def _without(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    """Sums and the like over axes, which are left free; and axes of length 1 left out."""
    gone = eqn.params["axes"] if "axes" in eqn.params else eqn.params["dimensions"]
    return [[axis for i, axis in enumerate(form) if i not in gone] for form in given[: len(eqn.outvars)]]


def _arg_reduce(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    walk.pin([given[0][i] for i in eqn.params["axes"]])
    return _without(walk, eqn, given)


def _along(name: str) -> Rule:
    """Of what tells apart the places along one axis, or more, and does the same at each of the others."""

    def rule(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
        axes = eqn.params[name]
        form = walk.joined(given)
        walk.pin([form[i] for i in (axes if isinstance(axes, tuple) else (axes,))])
        return [form] * len(eqn.outvars)

    return rule


def _window(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    found = []
    for axis, size, *along in zip(
        given[0], eqn.outvars[0].aval.shape, *(eqn.params[name] for name in names), strict=True
    ):
        same = along == [1, 1, (0, 0), 1, 1]
        found.append(axis if same else walk.axes.new(size, pinned=True))
        if not same:
            walk.axes.pin(axis)
    return [found]


def _pieces(walk: Propagation, axis: Parts, starts: Sequence[int], ends: Sequence[int]) -> list[Parts]:
    """Pieces of an axis: blocks of as many as go into all their bounds, whose units go with one another."""
    size = walk.axes.size(axis)
    unit = math.gcd(size, *starts, *ends)
    if unit == size:
        return [axis] * len(starts)
    inner = walk.in_blocks(axis, unit)
    return [(*walk.axes.new((b - a) // unit, pinned=True), *inner) for a, b in zip(starts, ends, strict=True)]


def _slice(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
    found = []
    for axis, size, start, end in zip(given[0], eqn.outvars[0].aval.shape, starts, ends, strict=True):
        if end - start == size:
            found += _pieces(walk, axis, [start], [end])
        else:  # Every other, or so.
            walk.axes.pin(axis)
            found.append(walk.axes.new(size, pinned=True))
    return [found]


def _split(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    ends, along = [int(end) for end in np.cumsum(eqn.params["sizes"])], eqn.params["axis"]
    pieces = _pieces(walk, given[0][along], [0, *ends[:-1]], ends)
    return [[*given[0][:along], piece, *given[0][along + 1 :]] for piece in pieces]


def _concatenate(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    along = eqn.params["dimension"]
    own = [form[along] for form in given]
    found = walk.joined([[*form[:along], (), *form[along + 1 :]] for form in given])
    unit = math.gcd(*map(walk.axes.size, own))
    inner = [walk.in_blocks(axis, unit) for axis in own]
    for other in inner[1:]:
        walk.axes.join(inner[0], other)
    total = eqn.outvars[0].aval.shape[along]
    found[along] = (*walk.axes.new(total // unit, pinned=True), *inner[0])
    return [found]


def _pad(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    found = []
    for axis, size, (low, high, between) in zip(
        given[0], eqn.outvars[0].aval.shape, eqn.params["padding_config"], strict=True
    ):
        if low == high == between == 0:
            found.append(axis)
        elif between or low < 0 or high < 0:
            walk.axes.pin(axis)
            found.append(walk.axes.new(size, pinned=True))
        else:
            unit = math.gcd(walk.axes.size(axis), int(low), int(high))
            found.append((*walk.axes.new(size // unit, pinned=True), *walk.in_blocks(axis, unit)))
    return [found]


def _dynamic_slice(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    found, whole = walk.fresh(eqn.outvars[0].aval, pinned=True), eqn.invars[0].aval.shape
    for i, (axis, size) in enumerate(zip(given[0], eqn.params["slice_sizes"], strict=True)):
        if size == whole[i]:
            found[i] = axis
        else:
            walk.axes.pin(axis)
    return [found]


def _dynamic_update_slice(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    array, update, *_ = given
    for i, (axis, part) in enumerate(zip(array, update, strict=True)):
        if eqn.invars[0].aval.shape[i] == eqn.invars[1].aval.shape[i]:
            walk.axes.join(axis, part)
        else:
            walk.axes.pin(axis, part)
    return [array]


def _gather(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    """Rows of a table, whose columns go on."""
    numbers, (table, places) = eqn.params["dimension_numbers"], given
    walk.pin(places)
    found = walk.fresh(eqn.outvars[0].aval, pinned=True)
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    offsets = iter(numbers.offset_dims)
    for i, (axis, size) in enumerate(zip(table, eqn.params["slice_sizes"], strict=True)):
        place = None if i in gone else next(offsets)
        if place is None or i in numbers.start_index_map or size != eqn.invars[0].aval.shape[i]:
            walk.axes.pin(axis)
        else:
            found[place] = axis
    return [found]


def _scan(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    consts, carried = eqn.params["num_consts"], eqn.params["num_consts"] + eqn.params["num_carry"]
    rows = given[carried:]
    walk.pin([form[0] for form in rows])
    body = eqn.params["jaxpr"]
    found = walk.run(body.jaxpr, body.consts, [*given[:carried], *(form[1:] for form in rows)])
    count = carried - consts
    states = _again(walk, given[consts:carried], found[:count])
    return [*states, *([walk.axes.new(eqn.params["length"], pinned=True), *form] for form in found[count:])]


def _while(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    test, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    ahead = eqn.params["cond_nconsts"]
    own, consts, states = given[:ahead], given[ahead:][: eqn.params["body_nconsts"]], given[-len(eqn.outvars) :]
    walk.run(test.jaxpr, test.consts, [*own, *states])
    return _again(walk, states, walk.run(body.jaxpr, body.consts, [*consts, *states]))


def _cond(walk: Propagation, eqn: Any, given: list[Form]) -> list[Form]:
    ways = [walk.run(branch.jaxpr, branch.consts, given[1:]) for branch in eqn.params["branches"]]
    return [walk.joined(forms) for forms in zip(*ways, strict=True)]


def _again(walk: Propagation, before: list[Form], after: list[Form]) -> list[Form]:
    """What goes round comes back as it went."""
    return [walk.joined(forms) for forms in zip(before, after, strict=True)]


_REDUCTIONS = ("reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor")
_WINDOWS = ("reduce_window_max", "reduce_window_min", "reduce_window_sum")
_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys((*_REDUCTIONS, "squeeze"), _without),
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys(("argmax", "argmin"), _arg_reduce),
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _along("axis")),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "cond": _cond,
    "conv_general_dilated": _convolution,
    "dot_general": _dot_general,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "iota": _iota,
    "optimization_barrier": _as_they_were,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _along("dimensions"),
    "scan": _scan,
    "slice": _slice,
    "sort": _along("dimension"),
    "split": _split,
    "transpose": _transpose,
    "while": _while,
}
