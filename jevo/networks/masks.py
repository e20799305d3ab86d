"""Networks whose genome is a mask of bits over frozen weights.

Kinds, as in the published mask experiments (stracini-git, Pruning-With-Genetic-Algorithm):

- `mask`: a weight is kept or dropped, {0, 1};
- `mask_rs`: the same, and what is kept of an array is scaled by size / (1 + kept);
- `flip`: a weight is kept or its sign inverted, {-1, 1};
- `mask_flip`: dropped, inverted or kept, {-1, 0, 1}: two planes of bits, `[2, *shape]`, the first of which says
  whether a weight is kept and the second whether as it is.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jevo import bits
from jevo.bits import Bits, is_bits
from jevo.networks.network import Network
from jevo.stateful import has_state
from jevo.types import Key, Member, Rate

MaskKind = Literal["mask", "mask_rs", "flip", "mask_flip"]


def masked(network: Network, weights: Member, kind: MaskKind = "mask", density: Rate = 0.5) -> Network:
    """`network` with frozen `weights`; its parameters are masks, one `Bits` for each array of `weights`.

    Args:
        network: any network.
        weights: its parameters, shared by all members. They may be traced.
        kind: what a bit means.
        density: probability that an initial bit is one; of `mask_flip`, a bit of the first plane.

    Raises:
        ValueError: for another kind, or a network with state.

    The mask is unpacked inside `apply`, so a population stays packed but for the chunk being scored.

    >>> from jevo.networks import mlp
    >>> network = mlp([64, 32, 10], bias=False)
    >>> over = masked(network, network.init(jax.random.key(0)), density=0.9)
    >>> over.init(jax.random.key(1))["layer_1"]["kernel"].words.shape
    (10,)
    """
    if kind not in get_args(MaskKind):
        raise ValueError(f"a mask is one of {', '.join(get_args(MaskKind))}, not {kind!r}")
    _require_no_state(weights)

    def init(key: Key) -> Member:
        arrays, treedef = jax.tree.flatten(weights)
        keys = jax.random.split(key, len(arrays))
        return treedef.unflatten([_draw(k, a.shape, kind, density) for k, a in zip(keys, arrays, strict=True)])

    def apply(genome: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return network.apply(weigh(weights, genome, kind), x, key)

    return Network(init, apply)


def straight_through(network: Network, weights: Member) -> Network:
    """`network` with frozen `weights` under a mask that gradients can train.

    The parameters are scores, uniform in 0.01..0.1 at first; a weight is kept where its score is positive, and the
    gradient reaches the score as though the mask were the score itself.

    Raises:
        ValueError: for a network with state.

    Source: Bengio, Leonard and Courville, "Estimating or propagating gradients through stochastic neurons for
    conditional computation", 2013; the first scores are those of the published mask experiments.
    """
    _require_no_state(weights)

    def init(key: Key) -> Member:
        arrays, treedef = jax.tree.flatten(weights)
        keys = jax.random.split(key, len(arrays))
        scores = [jax.random.uniform(k, a.shape, a.dtype, 0.01, 0.1) for k, a in zip(keys, arrays, strict=True)]
        return treedef.unflatten(scores)

    def apply(scores: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        def through(weight: jax.Array, score: jax.Array) -> jax.Array:
            kept = (score > 0).astype(score.dtype)
            return weight * (score + jax.lax.stop_gradient(kept - score))

        return network.apply(jax.tree.map(through, weights, scores), x, key)

    return Network(init, apply)


def weigh(weights: Member, genome: Member, kind: MaskKind) -> Member:
    """The weights that a masked network computes with: `weights` times the multipliers of its mask."""
    masks = jax.tree.leaves(genome, is_leaf=is_bits)
    arrays, treedef = jax.tree.flatten(weights)
    return treedef.unflatten([_apply_mask(a, m, kind) for a, m in zip(arrays, masks, strict=True)])


def density(genome: Member, kind: MaskKind) -> Member:
    """The share of weights that each mask keeps (`flip`: keeps unchanged), a float32 `[]` in place of each `Bits`."""

    def share(mask: Bits) -> jax.Array:
        kept = bits.unpack(mask)
        return jnp.mean(kept[0] if kind == "mask_flip" else kept, dtype=jnp.float32)

    return jax.tree.map(share, genome, is_leaf=is_bits)


def kept(genome: Member, kind: MaskKind) -> jax.Array:
    """The share of all weights that a genome keeps, whether as they are or inverted: float32 `[]`.

    It counts packed words, and unpacks none.

    Raises:
        ValueError: for `flip`, which drops nothing.
    """
    if kind == "flip":
        raise ValueError("a mask of the kind flip keeps all weights")
    masks = jax.tree.leaves(genome, is_leaf=is_bits)
    ones = [bits.count_ones(Bits(mask.words & _keeps(mask, kind).words, mask.shape)) for mask in masks]
    return jnp.stack(ones).sum().astype(jnp.float32) / sum(_weights(mask, kind) for mask in masks)


def thinned(key: Key, genome: Member, kind: MaskKind, share: Rate) -> Member:
    """The genome, which drops each weight that it keeps with probability `share`."""
    masks, treedef = jax.tree.flatten(genome, is_leaf=is_bits)
    keys = jax.random.split(key, len(masks))

    def thin(key: Key, mask: Bits) -> Bits:
        # A number for each: a share of each member's own, bits.bernoulli draws in both of its ways.
        dropped = bits.pack(jax.random.uniform(key, mask.shape) < share).words & _keeps(mask, kind).words
        return Bits(mask.words & ~dropped, mask.shape)

    return treedef.unflatten([thin(key, mask) for key, mask in zip(keys, masks, strict=True)])


def _require_no_state(weights: Member) -> None:
    if has_state(weights):
        raise ValueError(
            "masks are of weights alone, and this network also has a state, such as running statistics; use layers "
            "without, such as LayerNorm or GroupNorm"
        )


def _weights(mask: Bits, kind: MaskKind) -> int:
    """How many weights a mask is of."""
    return mask.size // 2 if kind == "mask_flip" else mask.size


def _keeps(mask: Bits, kind: MaskKind) -> Bits:
    """Which of a mask's genes say whether a weight is kept: all, or the first plane."""
    return bits.prefix(mask.shape, _weights(mask, kind))


def _draw(key: Key, shape: tuple[int, ...], kind: MaskKind, density: Rate) -> Bits:
    if kind != "mask_flip":
        return bits.bernoulli(key, density, shape)
    keep_key, sign_key = jax.random.split(key)
    planes = [bits.bernoulli(keep_key, density, shape), bits.bernoulli(sign_key, 0.5, shape)]
    return bits.pack(jnp.stack([bits.unpack(plane) for plane in planes]))


def _apply_mask(weights: jax.Array, mask: Bits, kind: MaskKind) -> jax.Array:
    ones = bits.unpack(mask)
    if kind == "mask_flip":
        kept, as_is = ones
        return jnp.where(kept, jnp.where(as_is, weights, -weights), 0)
    if kind == "flip":
        return jnp.where(ones, weights, -weights)
    scale = weights.size / (1 + bits.count_ones(mask)) if kind == "mask_rs" else 1
    return jnp.where(ones, weights * scale, 0)
