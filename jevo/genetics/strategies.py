"""Evolution strategies: search by a distribution that members are drawn from, and that moves to where the better are.

Each is an `Algorithm`. All its members are new in each generation, and drawn in pairs of opposite numbers; what it has
learnt is in `State.own`, and `mode` gives the member that it has come to:

    state = algorithm.init(population, fitness)     # of which only the best member, or none, has a say
    state = generation(algorithm, evaluate, key, state)
    member = mode(state)

The first population needs no scores, and so costs no evaluation: `jnp.full(P, -jnp.inf)` says that nobody was scored.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import bits
from jevo import population as pop
from jevo.bits import Bits, is_bits
from jevo.devices import in_chunks, summed
from jevo.errors import require_count
from jevo.genetics.algorithm import Algorithm, Candidates, State, replaced
from jevo.genetics.selection import as_fitness, descending
from jevo.programs import compiled_when_plain
from jevo.stateful import has_state
from jevo.types import Fitness, Key, Member, Population, Rate

DIGITS = 16
"""Binary digits of a gene's probability."""

Shaping = Callable[[Fitness], jax.Array]
"""`fitness [P] -> float32 [P]`: how much each member counts, for what it has or against it."""


class Bernoulli(NamedTuple):
    """A distribution of genes that are bits, each independent of the others.

    Attributes:
        logits: of the probability that a gene is one; a float32 array of the genes' shape for each `Bits` of a member.
        optimizer: state of the optimizer.
    """

    logits: Any
    optimizer: optax.OptState


class Gaussian(NamedTuple):
    """A distribution of genes that are numbers, each independent of the others.

    Attributes:
        mean: a member.
        sigma: standard deviations: a number for all genes, or a pytree like the mean.
        optimizer: state of the optimizer.
    """

    mean: Member
    sigma: Any
    optimizer: optax.OptState


def centred_ranks(fitness: Fitness) -> jax.Array:
    """From -0.5 for the worst member to 0.5 for the best, evenly; those who are equal share the mean of their ranks.

    Source: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", 2017.

    >>> centred_ranks(jnp.array([3.0, -jnp.inf, 7.0]))
    Array([ 0. , -0.5,  0.5], dtype=float32)
    """
    return ((jax.scipy.stats.rankdata(fitness) - 1) / max(1, fitness.size - 1) - 0.5).astype(jnp.float32)


def standardized(fitness: Fitness) -> jax.Array:
    """The fitness itself, of mean 0 and standard deviation 1; who failed counts as the worst of the others."""
    alive = fitness > -jnp.inf
    worst = jnp.min(jnp.where(alive, fitness, jnp.inf))
    filled = jnp.where(alive, fitness, jnp.where(jnp.isfinite(worst), worst, 0.0))
    spread = jnp.std(filled)
    return (filled - jnp.mean(filled)) / jnp.where(spread > 0, spread, 1.0)


def mode(state: State) -> Member:
    """The member that the distribution of a State makes likeliest: the mean, or every bit that is rather one than zero.

    Raises:
        ValueError: if the State is of another algorithm.
    """
    if isinstance(state.own, Gaussian):
        return state.own.mean
    if isinstance(state.own, Bernoulli):
        return jax.tree.map(lambda logits: bits.pack(logits > 0), state.own.logits)
    raise ValueError(
        "a State with a mode is one of bernoulli_es, open_es or pgpe; this one has no distribution of its own"
    )


def bernoulli_es(
    optimizer: optax.GradientTransformation,
    *,
    density: Rate = 0.5,
    floor: float = 0.01,
    shaping: Shaping = centred_ranks,
    chunk: int = 64,
) -> Algorithm:
    """A distribution over packed bits that follows the gradient of the expected fitness by its logits.

    The gradient by a gene's logit is the covariance of gene and fitness. Nothing is kept of a member but its packed
    bits, and sums over members are of integers, the same on however many devices; the optimizer's steps are, but for
    last bits.

    A covariance is small, so learning rates are large: for masks over 80,000 weights (MNIST), `optax.sgd` falling
    linearly from 110 to 0 did well, with 40 members and a floor of .01 for 4,000 evaluations, and with 100 members and
    .005 for 100,000.

    Args:
        optimizer: any of optax, for the logits; it is given the gradient as of a loss.
        density: probability that a bit of the first members is one.
        floor: how near a probability may come to 0 and to 1, at least 2**-16.
        shaping: what members count for.
        chunk: pairs drawn at once. It bounds the memory of temporaries and never changes a result.

    Members are pytrees of `Bits`; a population is an even number of them.

    Raises:
        ValueError: if the floor or the density are no such probabilities; from `init`, if members are no pairs, or have
            other genes than bits.

    Source: Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992
    (the gradient); Baluja, "Population-based incremental learning", 1994 (a probability for each bit); Berny,
    "Statistical machine learning and combinatorial optimization", 2000 (both together).

    >>> from jevo.genetics import generation, scored
    >>> algorithm = bernoulli_es(optax.sgd(4.0))
    >>> population = pop.init(jax.random.key(0), lambda key: {"w": bits.bernoulli(key, 0.5, (20,))}, 50)
    >>> state = algorithm.init(population, jnp.full(50, -jnp.inf))
    >>> ones = scored(jax.vmap(lambda member: bits.count_ones(member["w"])))
    >>> step = jax.jit(lambda state: generation(algorithm, ones, jax.random.key(1), state))
    >>> for _ in range(20):
    ...     state = step(state)
    >>> int(bits.count_ones(mode(state)["w"]))
    20
    """
    if not 2**-DIGITS <= floor < 0.5:
        raise ValueError(f"the floor of a probability is at least 2 to the -{DIGITS}, and below a half, not {floor}")
    if not isinstance(density, jax.Array) and not 0 < density < 1:
        raise ValueError(f"the density of a distribution over bits is between 0 and 1, not {density}")
    limit = math.log((1 - floor) / floor)

    def start(population: Population, fitness: Fitness) -> Bernoulli:
        if not all(map(is_bits, jax.tree.leaves(population, is_leaf=is_bits))):
            raise ValueError("a distribution over bits is for members of packed bits (jevo.bits.Bits) alone")
        logit = jnp.log(density) - jnp.log1p(-jnp.asarray(density, jnp.float32))
        first = jnp.clip(logit, -limit, limit)
        logits = jax.tree.map(lambda genes: jnp.full(genes.shape, first, jnp.float32), population, is_leaf=is_bits)
        return Bernoulli(logits, optimizer.init(logits))

    def draw(key: Key, own: Bernoulli, pairs: int) -> Population:
        logits, treedef = jax.tree.flatten(own.logits)
        shapes = [leaf.shape for leaf in logits]

        def pair(key: Key, probabilities: list[jax.Array]) -> list[Bits]:
            keys = jax.random.split(key, len(shapes))
            drawn = [bits.twins(*one) for one in zip(keys, probabilities, shapes, strict=True)]
            return [Bits(jnp.stack([one.words, other.words]), one.shape) for one, other in drawn]

        probabilities = [bits.binary(jax.nn.sigmoid(leaf), DIGITS) for leaf in logits]
        return treedef.unflatten(in_chunks(pair, jax.random.split(key, pairs), chunk, probabilities))

    def moved(own: Bernoulli, members: Population, weights: jax.Array, generation: jax.Array) -> Bernoulli:
        # In all at most 2**30, and in each as exact as float32 for a hundred members.
        scale = 2.0**30 / (weights.size * jnp.maximum(jnp.max(jnp.abs(weights)), 1e-30))
        whole = jnp.round(weights * scale).astype(jnp.int32)

        def weighted(member_and_weight: tuple[Member, jax.Array]) -> Any:
            member, weight = member_and_weight
            return jax.tree.map(lambda genes: weight * bits.unpack(genes), member, is_leaf=is_bits)

        sums = summed(weighted, (members, whole))
        gradient = jax.tree.map(lambda leaf: leaf / (scale * weights.size), sums)
        logits, state = _ascended(optimizer, gradient, own.optimizer, own.logits)
        return Bernoulli(jax.tree.map(lambda leaf: jnp.clip(leaf, -limit, limit), logits), state)

    return _in_pairs(start, draw, moved, shaping, chunk)


def open_es(
    optimizer: optax.GradientTransformation,
    sigma: float | optax.Schedule,
    *,
    shaping: Shaping = centred_ranks,
    chunk: int = 64,
) -> Algorithm:
    """OpenAI's evolution strategy: a mean that follows the gradient of the expected fitness of members about it.

    Args:
        optimizer: any of optax, for the mean; it is given the gradient as of a loss.
        sigma: standard deviation of the members' genes, or a schedule of it, `generation -> sigma`.
        shaping: what members count for.
        chunk: pairs drawn at once. It bounds the memory of temporaries and changes no more than last bits.

    Members are pytrees of floats; a population is an even number of them. The mean begins at the best member of the
    first population: at the first one, where nobody was scored.

    Raises:
        ValueError: if sigma is not above 0; from `init`, if members are no pairs, or have other genes than floats.

    Source: Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning", 2017. One step
    is that of `Open_ES` of evosax, whose schedule of sigma is a generation late.

    >>> from jevo.genetics import generation, scored
    >>> algorithm = open_es(optax.adam(0.1), sigma=0.1)
    >>> state = algorithm.init({"w": jnp.zeros((20, 3))}, jnp.full(20, -jnp.inf))
    >>> near_one = scored(lambda members: -jnp.sum((members["w"] - 1) ** 2, axis=1))
    >>> step = jax.jit(lambda state: generation(algorithm, near_one, jax.random.key(0), state))
    >>> for _ in range(60):
    ...     state = step(state)
    >>> bool(jnp.all(jnp.abs(mode(state)["w"] - 1) < 0.2))
    True
    """
    _require_above_zero(sigma, "sigma")
    at = lambda generation: jnp.asarray(sigma(generation) if callable(sigma) else sigma, jnp.float32)  # noqa: E731

    def start(population: Population, fitness: Fitness) -> Gaussian:
        mean = _best(population, fitness)
        return Gaussian(mean, at(jnp.int32(0)), optimizer.init(mean))

    def moved(own: Gaussian, members: Population, weights: jax.Array, generation: jax.Array) -> Gaussian:
        gradient = _average(weights, lambda genes, mean: (genes - mean) / own.sigma**2, members, own.mean)
        mean, state = _ascended(optimizer, gradient, own.optimizer, own.mean)
        return Gaussian(mean, at(generation + 1), state)

    return _in_pairs(start, _about_the_mean(chunk), moved, shaping, chunk)


def pgpe(
    optimizer: optax.GradientTransformation,
    sigma: float,
    sigma_learning_rate: float = 0.1,
    *,
    max_change: float = 0.2,
    shaping: Shaping = centred_ranks,
    chunk: int = 64,
) -> Algorithm:
    """Parameter-exploring policy gradients: a mean, and a standard deviation of each gene, that follow the fitness.

    Args:
        optimizer: any of optax, for the mean; it is given the gradient as of a loss, times the variance.
        sigma: standard deviation of the genes of the first members.
        sigma_learning_rate: of the standard deviations; 0 leaves them as they are.
        max_change: the largest share of itself that a standard deviation changes by in a generation.
        shaping: what members count for.
        chunk: pairs drawn at once. It bounds the memory of temporaries and changes no more than last bits.

    Members are pytrees of floats, in pairs, and the mean begins as that of `open_es`.

    Raises:
        ValueError: if a number is out of its range; from `init`, if members are no pairs, or their genes no floats.

    Source: Sehnke et al., "Parameter-exploring policy gradients", 2010, with symmetric sampling. One step is that of
    `PGPE` of evosax: the baseline is the generation's own mean where the paper has a running one, and `max_change` is
    not in the paper (`math.inf` leaves it out).

    >>> from jevo.genetics import generation, scored
    >>> algorithm = pgpe(optax.sgd(2.0), sigma=0.3)
    >>> state = algorithm.init({"w": jnp.zeros((20, 3))}, jnp.full(20, -jnp.inf))
    >>> near_one = scored(lambda members: -jnp.sum((members["w"] - 1) ** 2, axis=1))
    >>> step = jax.jit(lambda state: generation(algorithm, near_one, jax.random.key(0), state))
    >>> for _ in range(60):
    ...     state = step(state)
    >>> bool(jnp.all(jnp.abs(mode(state)["w"] - 1) < 0.2))
    True
    """
    _require_above_zero(sigma, "sigma")
    _require_above_zero(max_change, "the largest change of sigma")
    if not sigma_learning_rate >= 0:
        raise ValueError(f"the learning rate of sigma is 0 or more, not {sigma_learning_rate}")

    def start(population: Population, fitness: Fitness) -> Gaussian:
        mean = _best(population, fitness)
        return Gaussian(mean, jax.tree.map(lambda leaf: jnp.full_like(leaf, sigma), mean), optimizer.init(mean))

    def moved(own: Gaussian, members: Population, weights: jax.Array, generation: jax.Array) -> Gaussian:
        gradient = _average(weights, lambda genes, mean: genes - mean, members, own.mean)
        mean, state = _ascended(optimizer, gradient, own.optimizer, own.mean)
        wider = _average(
            weights - jnp.mean(weights),
            lambda genes, mean, sigma: ((genes - mean) ** 2 - sigma**2) / sigma,
            members, own.mean, own.sigma,
        )  # fmt: skip

        def changed(sigma: jax.Array, by: jax.Array) -> jax.Array:
            most = max_change * sigma
            return sigma + jnp.clip(sigma_learning_rate * by, -most, most)

        return Gaussian(mean, jax.tree.map(changed, own.sigma, wider), state)

    return _in_pairs(start, _about_the_mean(chunk), moved, shaping, chunk)


def _in_pairs(
    start: Callable[[Population, Fitness], Any],
    draw: Callable[[Key, Any, int], Population],
    moved: Callable[[Any, Population, jax.Array, jax.Array], Any],
    shaping: Shaping,
    chunk: int,
) -> Algorithm:
    """An algorithm whose members are drawn in pairs, one after the other.

    Args:
        start: `(population, fitness) -> own`, the distribution.
        draw: `(key, own, pairs) -> population` of pairs, leaves `[pairs, 2, ...]`.
        moved: `(own, population, weights [P], generation) -> own`.
        shaping: gives the weights.
        chunk: pairs drawn at once.
    """
    require_count(chunk, "chunk, the number of pairs drawn at once,")

    @compiled_when_plain()
    def init(population: Population, fitness: Fitness) -> State:
        size = pop.size(population)
        if size % 2:
            raise ValueError(f"members are drawn in pairs, so a population is an even number of them, not {size}")
        fitness = as_fitness(fitness, size)
        return State(population, fitness, jnp.zeros((), jnp.int32), start(population, fitness))

    @compiled_when_plain()
    def ask(key: Key, state: State) -> Candidates:
        size = pop.size(state.population)
        drawn = draw(key, state.own, size // 2)
        members = jax.tree.map(lambda leaf: leaf.reshape(size, *leaf.shape[2:]), drawn)
        return Candidates(members, jnp.full((size, 1), -1, jnp.int32), jnp.arange(size, dtype=jnp.int32))

    @compiled_when_plain()
    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        size = pop.size(state.population)
        if pop.size(candidates.members) != size:
            raise ValueError(
                f"{pop.size(candidates.members)} candidates are not the {size} of a state of {size} members; "
                "tell what ask has given for it"
            )
        after = replaced(state, candidates.members, fitness)
        return after._replace(own=moved(state.own, after.population, shaping(after.fitness), state.generation))

    return Algorithm(init, ask, tell)


def _about_the_mean(chunk: int) -> Callable[[Key, Gaussian, int], Population]:
    """Pairs at the mean and some noise, and at the mean less the same noise."""

    def pair(key: Key, own: Gaussian) -> Population:
        means, treedef = jax.tree.flatten(own.mean)
        # One for all genes, or one for each.
        sigmas = jax.tree.leaves(own.sigma) if jax.tree.structure(own.sigma) == treedef else [own.sigma] * len(means)
        keys = jax.random.split(key, len(means))
        noise = [s * jax.random.normal(k, m.shape, m.dtype) for k, m, s in zip(keys, means, sigmas, strict=True)]
        return treedef.unflatten([jnp.stack([m + n, m - n]) for m, n in zip(means, noise, strict=True)])

    return lambda key, own, pairs: in_chunks(pair, jax.random.split(key, pairs), chunk, own)


def _best(population: Population, fitness: Fitness) -> Member:
    if has_state(population):
        raise ValueError("a distribution about a mean is for members without state, such as running statistics")
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(population)):
        raise ValueError("a distribution about a mean is for members of floats alone")
    return pop.take(population, descending(fitness)[0])


def _average(weights: jax.Array, function: Callable[..., jax.Array], population: Population, *own: Any) -> Any:
    """The mean over members, each times its weight, of a function of a member's array and the distribution's, array by
    array."""

    def weighted(member_and_weight: tuple[Member, jax.Array], *own: Any) -> Any:
        member, weight = member_and_weight
        return jax.tree.map(lambda *arrays: weight * function(*arrays), member, *own)

    return jax.tree.map(lambda leaf: leaf / weights.size, summed(weighted, (population, weights), *own))


def _ascended(
    optimizer: optax.GradientTransformation, gradient: Any, state: optax.OptState, params: Any
) -> tuple[Any, optax.OptState]:
    """A step of an optimizer that makes losses small, up the gradient."""
    updates, state = optimizer.update(jax.tree.map(jnp.negative, gradient), state, params)
    return optax.apply_updates(params, updates), state


def _require_above_zero(value: Any, what: str) -> None:
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{what} is a number above 0, not {value}")
