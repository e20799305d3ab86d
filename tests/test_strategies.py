"""Evolution strategies against NumPy, against the distribution that they draw from, and against random search."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import bits, genetics
from jevo.genetics import strategies
from tests.commands import devices as pretended

SHAPES = {"a": (37,), "b": {"c": (5, 13), "d": (64,)}}
is_shape = lambda shape: isinstance(shape, tuple)  # noqa: E731


def members(kind, size):
    """A population of these shapes; its values are nobody's business."""
    make = {
        "bits": lambda shape: bits.Bits(jnp.zeros((size, bits.words_for(shape)), jnp.uint32), shape),
        "floats": lambda shape: jnp.zeros((size, *shape)),
    }[kind]
    return jax.tree.map(make, SHAPES, is_leaf=is_shape)


def unscored(size):
    return jnp.full(size, -jnp.inf)


def unpacked(population):
    """`[P, ...]` booleans for each packed array."""
    return [np.asarray(jax.vmap(bits.unpack)(genes)) for genes in jax.tree.leaves(population, is_leaf=bits.is_bits)]


def some_logits(seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: jnp.asarray(rng.normal(0, scale, shape), jnp.float32), SHAPES, is_leaf=is_shape)


ALGORITHMS = {
    "bernoulli_es": ("bits", partial(strategies.bernoulli_es, optax.adam(0.1))),
    "open_es": ("floats", partial(strategies.open_es, optax.adam(0.1), 0.2)),
    "open_es, scheduled": ("floats", partial(strategies.open_es, optax.sgd(0.1), optax.linear_schedule(0.2, 0.1, 5))),
    "pgpe": ("floats", partial(strategies.pgpe, optax.sgd(0.1), 0.2)),
}
every = pytest.mark.parametrize("name", ALGORITHMS)


def score(population):
    """Any function of members, of either kind."""
    arrays = [
        jax.vmap(bits.unpack)(leaf).astype(jnp.float32) if bits.is_bits(leaf) else leaf
        for leaf in jax.tree.leaves(population, is_leaf=bits.is_bits)
    ]
    flat = jnp.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
    # Of bits it is an integer, so that no order of summation changes it.
    return jnp.sum(flat * (jnp.arange(flat.shape[1]) * 37 % 11 - 5.0)[None], axis=1)


def test_genes_are_ones_as_often_as_their_probabilities_say(key):
    """Each gene, both of a pair, and no two genes together more often than chance has it."""
    algorithm = strategies.bernoulli_es(optax.sgd(1.0), floor=0.01)
    pairs = 4000
    state = algorithm.init(members("bits", 2 * pairs), unscored(2 * pairs))
    state = state._replace(own=state.own._replace(logits=some_logits()))
    drawn = unpacked(algorithm.ask(key, state).members)
    for genes, logits in zip(drawn, jax.tree.leaves(state.own.logits), strict=True):
        p = np.asarray(jax.nn.sigmoid(logits))
        for of in (genes[::2], genes[1::2]):
            assert (np.abs(of.mean(axis=0) - p) < 5 * np.sqrt(p * (1 - p) / pairs) + 2**-16).all()
    flat = drawn[2][::2].astype(float)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 6 / np.sqrt(pairs)


def test_twins_are_opposite(key):
    """A gene is one in both only where it is rather one, and in neither only where it is rather zero."""
    algorithm = strategies.bernoulli_es(optax.sgd(1.0))
    state = algorithm.init(members("bits", 200), unscored(200))
    for genes in unpacked(algorithm.ask(jax.random.clone(key), state).members):
        np.testing.assert_array_equal(genes[::2], ~genes[1::2])
    state = state._replace(own=state.own._replace(logits=some_logits()))
    drawn = unpacked(algorithm.ask(key, state).members)
    for genes, logits in zip(drawn, jax.tree.leaves(state.own.logits), strict=True):
        one, other = genes[::2], genes[1::2]
        assert not (one & other)[:, np.asarray(logits) < 0].any()
        assert not (~one & ~other)[:, np.asarray(logits) > 0].any()


def test_opposite_noise_is_opposite(key):
    for name in ("open_es", "pgpe"):
        algorithm = ALGORITHMS[name][1]()
        state = algorithm.init(members("floats", 10), unscored(10))
        for genes in jax.tree.leaves(algorithm.ask(jax.random.clone(key), state).members):
            np.testing.assert_array_equal(genes[::2], -genes[1::2])
            assert np.std(genes) == pytest.approx(0.2, rel=0.3)


def test_bits_that_are_no_genes_are_zero(key):
    algorithm = strategies.bernoulli_es(optax.sgd(1.0), density=0.9)
    state = algorithm.init(members("bits", 20), unscored(20))
    drawn = algorithm.ask(key, state).members
    for population in (drawn, jax.tree.map(lambda leaf: leaf[None], genetics.mode(state))):
        for genes in jax.tree.leaves(population, is_leaf=bits.is_bits):
            repacked = jax.vmap(lambda genes: bits.pack(bits.unpack(genes)))(genes)
            np.testing.assert_array_equal(genes.words, repacked.words)


@pytest.mark.parametrize("shape", ["ranks", "standardized"])
def test_a_step_over_bits_is_numpys(shape, key):
    """The covariance of genes and ranks, or of genes and fitness, times the learning rate; clipped."""
    shaping = {"ranks": strategies.centred_ranks, "standardized": strategies.standardized}[shape]
    algorithm = strategies.bernoulli_es(optax.sgd(3.0), floor=0.05, shaping=shaping)
    state = algorithm.init(members("bits", 30), unscored(30))
    before = some_logits(scale=1.0)
    state = state._replace(own=state.own._replace(logits=before))
    candidates = algorithm.ask(key, state)
    fitness = np.random.default_rng(0).normal(5, 2, 30).astype(np.float32)
    after = algorithm.tell(state, candidates, jnp.asarray(fitness))
    ranks = np.argsort(np.argsort(fitness)) / 29 - 0.5
    weights = ranks if shape == "ranks" else (fitness - fitness.mean()) / fitness.std()
    for genes, old, new in zip(
        unpacked(candidates.members), jax.tree.leaves(before), jax.tree.leaves(after.own.logits), strict=True
    ):
        covariance = np.mean(weights.reshape(-1, *[1] * (genes.ndim - 1)) * genes, axis=0)
        limit = np.log(19.0)
        np.testing.assert_allclose(new, np.clip(np.asarray(old) + 3 * covariance, -limit, limit), atol=2e-5)
    np.testing.assert_array_equal(after.fitness, fitness)
    assert int(after.generation) == 1
    jax.tree.map(np.testing.assert_array_equal, after.population, candidates.members)


def test_ranks_are_centred_and_equals_share_them():
    fitness = jnp.float32([2.0, -jnp.inf, 5.0, 2.0, -jnp.inf])
    np.testing.assert_allclose(strategies.centred_ranks(fitness), [0.125, -0.375, 0.5, 0.125, -0.375])
    np.testing.assert_array_equal(strategies.centred_ranks(unscored(4)), np.zeros(4))


def test_who_failed_counts_as_the_worst():
    found = strategies.standardized(jnp.float32([1.0, -jnp.inf, 3.0]))
    np.testing.assert_allclose(found, strategies.standardized(jnp.float32([1.0, 1.0, 3.0])))
    np.testing.assert_array_equal(strategies.standardized(unscored(4)), np.zeros(4))


@pytest.mark.slow
@every
def test_chunks_change_nothing(name, key):
    """Of floats, nothing but the last bits."""
    kind, make = ALGORITHMS[name]
    asked = []
    for chunk in (1, 3, 100):
        algorithm = make(chunk=chunk)
        asked.append(algorithm.ask(jax.random.clone(key), algorithm.init(members(kind, 14), unscored(14))))
    same = np.testing.assert_array_equal if kind == "bits" else partial(np.testing.assert_allclose, atol=1e-6)
    for other in asked[1:]:
        jax.tree.map(same, asked[0], other)


@pytest.mark.slow
@every
def test_a_run_goes_on_from_its_state_alone(name, key):
    """Saved as plain arrays, after three of six generations, and within a scan."""
    kind, make = ALGORITHMS[name]
    start = make().init(members(kind, 14), unscored(14))

    def some(state, algorithm, n):
        step = partial(genetics.generation, algorithm, genetics.scored(score), jax.random.key(3))
        for _ in range(n):
            state = step(state)
        return state

    whole = some(start, make(), 6)
    leaves, treedef = jax.tree.flatten(some(start, make(), 3))
    again = some(treedef.unflatten([jnp.asarray(np.array(leaf)) for leaf in leaves]), make(), 3)
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    step = lambda state, _: (genetics.generation(make(), genetics.scored(score), jax.random.key(3), state), None)  # noqa: E731
    scanned = jax.jit(lambda state: jax.lax.scan(step, state, length=6)[0])(start)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), whole, scanned)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np, optax
from jevo import bits, devices, genetics
from jevo.genetics import strategies
from jevo.runs.processes import population_mesh
from tests.test_strategies import ALGORITHMS, members, score, unscored

mesh = population_mesh(0)
assert mesh.size == 8

def run(name, size, mesh):
    kind, make = ALGORITHMS[name]
    algorithm = make(chunk=3)
    step = lambda _, state: genetics.generation(algorithm, genetics.scored(score), jax.random.key(1), state)
    with devices.spread(mesh):
        state = algorithm.init(members(kind, size), unscored(size))
        return jax.jit(lambda state: jax.lax.fori_loop(0, 4, step, state))(state)

for size in (64, 22):
    alone, spread = run("bernoulli_es", size, None), run("bernoulli_es", size, mesh)
    jax.tree.map(np.testing.assert_array_equal, alone.population, spread.population)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone.own, spread.own)
    for name in ("open_es", "pgpe"):
        alone, spread = run(name, size, None), run(name, size, mesh)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), alone.own, spread.own)
"""


@pytest.mark.slow
def test_devices_change_nothing():
    """Over bits not a single one, though each program rounds the optimizer's step in its own way; over floats no more
    than the order in which members are summed."""
    done = subprocess.run(
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, env=os.environ | pretended(8), check=False
    )
    assert done.returncode == 0, done.stderr


def leading_ones(population):
    genes = jax.vmap(bits.unpack)(population["w"])
    return jnp.sum(jnp.cumprod(genes.astype(jnp.int32), axis=1), axis=1)


def one_max(population):
    return bits.count_ones(population["w"])


@pytest.mark.parametrize(("problem", "size", "generations"), [(one_max, 100, 40), (leading_ones, 16, 120)])
def test_toy_problems_are_solved_where_random_search_is_far(problem, size, generations):
    """All bits are ones, with 40 members a generation."""
    first = {"w": bits.Bits(jnp.zeros((40, bits.words_for((size,))), jnp.uint32), (size,))}
    algorithm = strategies.bernoulli_es(optax.sgd(8.0))
    control = genetics.random_search(lambda key: {"w": bits.bernoulli(key, 0.5, (size,))}, rescore=True)
    for seed in range(3):
        found = []
        for algorithm_ in (algorithm, control):
            step = lambda state, _, a=algorithm_: (  # noqa: E731
                genetics.generation(a, genetics.scored(problem), jax.random.key(seed), state),  # noqa: B023
                None,
            )
            state = algorithm_.init(first, unscored(40))
            found.append(jax.jit(lambda s, step=step: jax.lax.scan(step, s, length=generations)[0])(state))
        assert bits.count_ones(genetics.mode(found[0])["w"]) == size
        assert found[1].fitness.max() < size


def test_what_cannot_be_is_said_in_a_line(key):
    make, step = strategies.bernoulli_es, optax.sgd(1.0)
    with pytest.raises(ValueError, match="is at least 2 to the -16, and below a half, not"):
        make(step, floor=0.5)
    with pytest.raises(ValueError, match="the density of a distribution over bits is between 0 and 1, not 1"):
        make(step, density=1.0)
    with pytest.raises(
        ValueError, match="members are drawn in pairs, so a population is an even number of them, not 5"
    ):
        make(step).init(members("bits", 5), unscored(5))
    with pytest.raises(ValueError, match="for members of packed bits"):
        make(step).init(members("floats", 4), unscored(4))
    with pytest.raises(ValueError, match="for members of floats alone"):
        strategies.open_es(step, 0.1).init(members("bits", 4), unscored(4))
    with pytest.raises(ValueError, match="sigma is a number above 0, not 0"):
        strategies.open_es(step, 0)
    with pytest.raises(ValueError, match="the learning rate of sigma is 0 or more, not -1"):
        strategies.pgpe(step, 0.1, -1)
    with pytest.raises(ValueError, match="chunk, the number of pairs drawn at once, is an integer, at least 1, not 0"):
        make(step, chunk=0)
    algorithm = make(step)
    state = algorithm.init(members("bits", 6), unscored(6))
    fewer = algorithm.ask(key, algorithm.init(members("bits", 4), unscored(4)))
    with pytest.raises(ValueError, match="4 candidates are not the 6 of a state of 6 members"):
        algorithm.tell(state, fewer, jnp.zeros(4))
    genetic = genetics.genetic(genetics.truncation(2), genetics.uniform(), elites=1)
    with pytest.raises(ValueError, match="a State with a mode is one of"):
        genetics.mode(genetic.init(members("bits", 4), jnp.zeros(4)))


def test_no_float_for_each_gene_of_a_population():
    """What asking and telling need beside the population itself, in bytes for each gene of a member."""
    shape, size = (100_000,), 256
    algorithm = strategies.bernoulli_es(optax.sgd(1.0), chunk=4)
    state = jax.eval_shape(algorithm.init, {"w": bits.Bits(jnp.zeros((size, 3125), jnp.uint32), shape)}, unscored(size))

    def step(key, state):
        candidates = algorithm.ask(key, state)
        return algorithm.tell(state, candidates, jnp.arange(size, dtype=jnp.float32))

    program = jax.jit(step).lower(jax.eval_shape(lambda: jax.random.key(0)), state).compile()
    assert program.memory_analysis().temp_size_in_bytes < 100_000 * size / 8 + 60 * 100_000
