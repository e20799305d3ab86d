"""Packed-bit genomes: 32 genes in each uint32 word.

A genome of bits is a `Bits`: its words plus, static, the shape of the genes. Functions here are written for
one member; `jax.vmap` gives a population, whose words are `[P, W]` while `shape` stays a member's.

Genes are packed in C order, the least significant bit first. The last word's unused bits are always zero,
so equal genomes have equal words.
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jevo.types import Key, Rate

WORD = 32
TRACED_DIGITS = 24
"""Binary digits kept of a traced probability: its error is at most 2**-25."""
RARE = 1 / 256
"""Ones this rare are placed, block by block, not drawn gene by gene."""
BLOCK = 16
"""Words of a block: 512 genes, so a place in it takes 9 bits, and a random word gives three."""
HITS = 13
"""The most ones placed in a block. At `RARE` a block has 2 in the mean; more than 13 come once in a million blocks."""


@partial(jax.tree_util.register_dataclass, data_fields=["words"], meta_fields=["shape"])
@dataclass(frozen=True)
class Bits:
    """Bits packed into words.

    Attributes:
        words: uint32 `[..., W]`, `W = ceil(size / 32)`; a population's leading axis comes first.
        shape: shape of one member's genes, static.
    """

    words: Any
    shape: tuple[int, ...] = field(metadata={"static": True})

    @property
    def size(self) -> int:
        """Genes of one member."""
        return math.prod(self.shape)


def is_bits(x: Any) -> TypeGuard[Bits]:
    """Whether `x` is packed: for `is_leaf` in tree functions."""
    return isinstance(x, Bits)


def words_for(shape: tuple[int, ...]) -> int:
    """Words that hold genes of this shape."""
    return -(-math.prod(shape) // WORD)


def pack(genes: jax.Array) -> Bits:
    """Pack booleans of any shape.

    >>> pack(jnp.array([True, False, True])).words
    Array([5], dtype=uint32)
    """
    flat = jnp.ravel(genes).astype(jnp.uint32)
    padded = jnp.pad(flat, (0, -flat.size % WORD)).reshape(-1, WORD)
    # A sum of disjoint bits, kept in uint32, which x64 mode would widen.
    words = jnp.sum(padded << _positions()[None, :], axis=1, dtype=jnp.uint32)
    return Bits(words, jnp.shape(genes))


def unpack(bits: Bits) -> jax.Array:
    """The genes as booleans, in the shape `bits.shape`.

    >>> unpack(pack(jnp.array([True, False, True])))
    Array([ True, False,  True], dtype=bool)
    """
    ones = (bits.words[:, None] >> _positions()[None, :]) & jnp.uint32(1)
    return ones.reshape(-1)[: bits.size].reshape(bits.shape).astype(bool)


def bernoulli(key: Key, p: Rate, shape: tuple[int, ...]) -> Bits:
    """Genes that are one with probability `p`, independently.

    Random words are combined along the binary digits of `p`, last digit first: `or` with a fresh word for a
    one, `and` for a zero, which halves the distance to that digit. Thirty-two genes so cost one random word a
    digit, where a number for each gene costs 32. Rare ones (`p`, or for a number `1 - p`, at most `RARE`) cost a
    third of a word: each block of genes draws how many hits it takes (Poisson's), and where.

    Args:
        key: consumed.
        p: a number is rounded to as few binary digits as keep the relative error of `p` and of `1 - p` under
            1%, so 0.5 costs one word and 0.05 ten. A traced scalar is rounded to `TRACED_DIGITS`. One that is
            rare is not rounded.
        shape: shape of the genes.
    """
    words = words_for(shape)
    if isinstance(p, jax.Array):  # A tracer is one too.
        scaled = jnp.clip(jnp.round(p * 2.0**TRACED_DIGITS), 0, 2**TRACED_DIGITS).astype(jnp.uint32)
        ones = jax.lax.cond(
            p <= RARE,
            lambda key: _placed(key, jnp.minimum(p, RARE), words),
            lambda key: _along_digits(key, TRACED_DIGITS, scaled, words),
            key,
        )
    elif not 0 <= p <= 1:
        raise ValueError(f"a probability is between 0 and 1, not {p}")
    elif p <= RARE:
        ones = _placed(key, float(p), words)
    elif 1 - p <= RARE:
        ones = ~_placed(key, 1 - float(p), words)
    else:
        ones = _along_digits(key, *_digits(float(p)), words)
    return Bits(ones & prefix(shape, math.prod(shape)).words, shape)


def binary(p: jax.Array, digits: int) -> jax.Array:
    """Probabilities of genes, each gene its own, in binary and packed: what `twins` draws from.

    Args:
        p: float32, of the shape of the genes. Rounded to a multiple of `2**-digits`, and to neither 0 nor 1.
        digits: binary digits that are kept, 1 to 24.

    Returns:
        uint32 `[digits, W]`, the last digit first.
    """
    scaled = jnp.clip(jnp.round(p * 2.0**digits), 1, 2**digits - 1).astype(jnp.uint32)
    return jax.lax.map(lambda digit: pack((scaled >> digit) & 1).words, jnp.arange(digits, dtype=jnp.uint32))


def twins(key: Key, p: jax.Array, shape: tuple[int, ...]) -> tuple[Bits, Bits]:
    """Two genomes whose genes are one with probabilities of their own, drawn of opposite numbers.

    A gene of the first is one where a number u, uniform in [0, 1), is below its probability; of the second, where 1 - u
    is. So at a probability of a half the second is the first inverted. As `bernoulli`, this takes a random word for 32
    genes and a digit.

    Args:
        key: consumed.
        p: uint32 `[digits, W]`, of each gene, as `binary` gives it.
        shape: shape of the genes.

    >>> one, other = twins(jax.random.key(0), binary(jnp.full(40, 0.5), 8), (40,))
    >>> int(count_ones(one)) + int(count_ones(other))
    40
    """
    random, used = jax.random.bits(key, p.shape), prefix(shape, math.prod(shape)).words

    def below(random: jax.Array) -> Bits:
        ones = jnp.zeros_like(used)
        for own, digit in zip(random, p, strict=True):
            ones = (own & ones) | (digit & (own | ones))
        return Bits(ones & used, shape)

    return below(random), below(~random)


def prefix(shape: tuple[int, ...], count: int | jax.Array) -> Bits:
    """Genes of which the first `count` (clipped to 0..size) are one, the rest zero."""
    size = math.prod(shape)
    start = WORD * jnp.arange(words_for(shape), dtype=jnp.int32)
    inside = jnp.clip(jnp.clip(count, 0, size) - start, 0, WORD).astype(jnp.uint32)
    # A shift by 32 is undefined, so a full word is shifted by 0 from the other side.
    some = ~jnp.uint32(0) >> (jnp.uint32(WORD) - jnp.maximum(inside, 1))
    return Bits(jnp.where(inside == 0, jnp.uint32(0), some), shape)


def select(where: Bits, ones: Bits, zeros: Bits) -> Bits:
    """Gene by gene: from `ones` where `where` is one, else from `zeros`."""
    return Bits((ones.words & where.words) | (zeros.words & ~where.words), ones.shape)


def flip(bits: Bits, where: Bits) -> Bits:
    """The genes, inverted where `where` is one."""
    return Bits(bits.words ^ where.words, bits.shape)


def majority(population: Bits) -> Bits:
    """The member whose every gene is that of most members; a tie is a one.

    Args:
        population: words `[P, W]`. It is unpacked whole, so this is for a few members.
    """
    votes = jnp.mean(jax.vmap(unpack)(population), axis=0, dtype=jnp.float32)
    return pack(votes >= 0.5)


def count_ones(bits: Bits) -> jax.Array:
    """How many genes are one: int32 `[]`, or `[...]` over any leading axes of the words."""
    return jnp.sum(jax.lax.population_count(bits.words).astype(jnp.int32), axis=-1)


def _positions() -> jax.Array:
    return jnp.arange(WORD, dtype=jnp.uint32)


def _along_digits(key: Key, digits: int, scaled: int | jax.Array, words: int) -> jax.Array:
    """Words of genes that are one with probability `scaled / 2**digits`."""
    ones = jnp.zeros(words, jnp.uint32)
    for digit, random in enumerate(jax.random.bits(key, (digits, words))):
        is_one = (scaled >> digit) & 1
        ones = jnp.where(is_one, ones | random, ones & random)
    # p = 1 is the one probability that needs a digit before the point.
    return jnp.where(scaled >> digits, ~jnp.uint32(0), ones)


def _placed(key: Key, p: float | jax.Array, words: int) -> jax.Array:
    """Words of genes that are one with probability `p <= RARE`.

    If a gene's hits are Poisson's and it takes none with probability `1 - p`, then genes with a hit are what is
    wanted; and all hits of a block are Poisson's too, each at a place of its own choice.
    """
    xp = jnp if isinstance(p, jax.Array) else np
    mean = -BLOCK * WORD * xp.log1p(-p)
    exactly, more = xp.exp(-mean), [-xp.expm1(-mean)]
    for hits in range(1, HITS):
        exactly = exactly * mean / hits
        more.append(xp.maximum(more[-1] - exactly, 0))

    random = jax.random.bits(key, (1 + -(-HITS // 3), -(-words // BLOCK)))
    own = jnp.arange(BLOCK, dtype=jnp.uint32)
    ones = jnp.zeros((random.shape[1], BLOCK), jnp.uint32)
    for hit in range(HITS):
        lands = random[0] < xp.uint32(more[hit] * 2.0**WORD)  # There are more than `hit` hits.
        place = random[1 + hit // 3] >> (9 * (hit % 3))
        bit = jnp.where(lands, jnp.uint32(1) << (place % WORD), 0)
        ones = ones | jnp.where((place // WORD % BLOCK)[:, None] == own[None, :], bit[:, None], 0)
    return ones.reshape(-1)[:words]


def _digits(p: float) -> tuple[int, int]:
    """The fewest binary digits k, and round(p * 2**k), that keep p and 1 - p within 1%."""
    rarer = min(p, 1 - p)
    digits = 0
    while digits < TRACED_DIGITS and abs(round(rarer * 2**digits) / 2**digits - rarer) > 0.01 * rarer:
        digits += 1
    # Rounded from the rarer side: the same digits either way round.
    scaled = round(rarer * 2**digits)
    return digits, scaled if p <= 0.5 else 2**digits - scaled
