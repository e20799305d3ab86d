"""Members of every kind, for hypothesis."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jevo import bits

KINDS = ("float", "int", "bool", "bits")
# Few shapes, chosen about the word size: XLA compiles every operation anew for every shape.
shapes = st.sampled_from([(1,), (37,), (64,), (3, 5), (2, 3, 4)])
seeds = st.integers(0, 2**31)


def genes(kind, shape, seed):
    """Random genes; floats are distinct from any other draw with near certainty."""
    rng = np.random.default_rng(seed)
    if kind == "float":
        return jnp.asarray(rng.normal(size=shape), jnp.float32)
    if kind == "int":
        return jnp.asarray(rng.integers(-1000, 1000, shape), jnp.int32)
    ones = jnp.asarray(rng.random(shape) < 0.5)
    return bits.pack(ones) if kind == "bits" else ones


def members(kinds=KINDS, count=1):
    """A tuple of `count` members of one random structure: layers with a kernel and perhaps a bias, and loose arrays."""

    @st.composite
    def build(draw):
        layers = draw(st.lists(st.tuples(st.sampled_from(kinds), shapes, st.booleans()), min_size=1, max_size=2))
        loose = draw(st.none() | st.tuples(st.sampled_from(kinds), shapes))
        seed = draw(seeds)

        def make(seed):
            member = {}
            for i, (kind, shape, bias) in enumerate(layers):
                member[f"layer_{i}"] = {"kernel": genes(kind, shape, [seed, i, 0])}
                if bias:
                    member[f"layer_{i}"]["bias"] = genes(kind, shape[-1:], [seed, i, 1])
            if loose:
                member["loose"] = genes(*loose, [seed, 99])
            return member

        return tuple(make(seed + i) for i in range(count))

    return build()


def plain(member):
    """The gene arrays of a member as NumPy arrays, packed ones unpacked."""
    leaves = jax.tree.leaves(member, is_leaf=bits.is_bits)
    return [np.asarray(bits.unpack(leaf) if bits.is_bits(leaf) else leaf) for leaf in leaves]
