"""What all operators share: a fresh key for each gene array, random gates, and picking by gate.

A *gene array* is a leaf of a member: a float, integer or bool array, or a `Bits`. A *gate* says for each gene
which of two it shall be; it is a `Bits` for packed genes and a bool array for the others.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from jevo import bits
from jevo.bits import is_bits
from jevo.types import Key, Member, Rate

Gene = Any
"""One gene array: `jax.Array` or `Bits`."""
Gate = Any
"""A bool array that broadcasts to the genes, or a `Bits` of their shape."""


def map_genes(function: Callable[..., Gene], key: Key, member: Member, *others: Member) -> Member:
    """`function(key, genes, *others' genes)` on each gene array, each with a key of its own."""
    genes, treedef = jax.tree.flatten(member, is_leaf=is_bits)
    rest = [treedef.flatten_up_to(other) for other in others]
    keys = jax.random.split(key, len(genes)) if genes else []
    return treedef.unflatten([function(*args) for args in zip(keys, genes, *rest, strict=True)])


def gate(key: Key, rate: Rate, genes: Gene) -> Gate:
    """Open for each gene with probability `rate`, as `bits.bernoulli` rounds it: no number is drawn for each gene."""
    drawn = bits.bernoulli(key, rate, genes.shape)
    return drawn if is_bits(genes) else bits.unpack(drawn)


def pick(where: Gate, opened: Gene, closed: Gene) -> Gene:
    """`opened` where the gate is open, else `closed`. A bool gate `[]` decides for all genes at once."""
    if is_bits(where):
        return bits.select(where, opened, closed)
    return jax.tree.map(lambda yes, no: jnp.where(where, yes, no), opened, closed)


def require_rate(operator: str, rate: Rate, name: str = "rate") -> None:
    """Raise a ValueError unless a rate that is a number, and not an array, is a probability."""
    if isinstance(rate, Real) and not 0 <= rate <= 1:
        raise ValueError(f"{operator} takes a {name} from 0 to 1, not {rate}")


def require_size(operator: str, size: Rate, name: str) -> None:
    """Raise a ValueError unless a size that is a number, and not an array, is finite and not negative."""
    if isinstance(size, Real) and not 0 <= size < math.inf:
        raise ValueError(f"{operator} takes a finite {name}, 0 or more, not {size}")


def require_kind(operator: str, genes: Any, kinds: tuple[str, ...]) -> None:
    """Raise a TypeError in plain words if `operator` has no meaning for these genes.

    Args:
        operator: the name the user knows.
        genes: one gene array.
        kinds: any of "bits", "bool", "int", "float".
    """
    if is_bits(genes):
        kind = "bits"
    elif not hasattr(genes, "dtype"):
        kind = type(genes).__name__
    elif jnp.issubdtype(genes.dtype, jnp.bool_):
        kind = "bool"
    else:
        kinds_of = {
            "int": jnp.integer,
            "float": jnp.floating,
            "complex": jnp.complexfloating,
            "key": jax.dtypes.prng_key,
        }
        kind = next((name for name, of in kinds_of.items() if jnp.issubdtype(genes.dtype, of)), str(genes.dtype))
    if kind not in kinds:
        raise TypeError(
            f"{operator} works on {' and '.join(kinds)} genes, not on {kind}; "
            "use route(...) to give each part of a member its own operator"
        )
