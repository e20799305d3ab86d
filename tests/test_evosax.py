"""Strategies beside evosax's: one step of this engine's own, and whole runs of evosax's in this engine's loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import genetics
from tests.marks import mostly_slow

pytestmark = pytest.mark.extras
algorithms = pytest.importorskip("evosax.algorithms")

MEMBER = {"a": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.full(4, 0.5)}
MEMBERS = 12


@pytest.fixture(autouse=True)
def in_evosaxs_style():
    """Whose arrays are of any rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def score(population):
    each = lambda leaf: jnp.sum((leaf - 2.0) ** 2, axis=tuple(range(1, leaf.ndim)))  # noqa: E731
    return -sum(map(each, jax.tree.leaves(population)))


def population():
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (MEMBERS, *leaf.shape)), MEMBER)


def flat(member):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(member)])


@pytest.mark.parametrize("name", ["Open_ES", "PGPE"])
def test_a_step_is_evosaxs(name, key):
    """Of the same noise: the same mean and the same standard deviations, three generations on."""
    optimizer = optax.adam(0.05)
    own = {"Open_ES": partial(genetics.open_es, optimizer, 0.3), "PGPE": partial(genetics.pgpe, optimizer, 0.3)}[name]()
    peer = getattr(algorithms, name)(
        population_size=MEMBERS,
        solution=MEMBER,
        optimizer=optimizer,
        **({"std_schedule": optax.constant_schedule(0.3)} if name == "Open_ES" else {}),
    )
    params = peer.default_params
    if name == "PGPE":
        params = params.replace(std_init=0.3)
    theirs = peer.init(jax.random.key(1), MEMBER, params)
    state = own.init(population(), jnp.full(MEMBERS, -jnp.inf))
    for turn in range(3):
        candidates = own.ask(jax.random.fold_in(key, turn), state)
        # Theirs has all of one sign first.
        halves = jax.tree.map(lambda leaf: jnp.concatenate([leaf[::2], leaf[1::2]]), candidates.members)
        theirs, _ = peer.tell(jax.random.key(2), halves, -score(halves), theirs, params)
        state = own.tell(state, candidates, score(candidates.members))
        np.testing.assert_allclose(flat(state.own.mean), theirs.mean, rtol=1e-5, atol=1e-6)
        sigma = jnp.broadcast_to(state.own.sigma, 10) if name == "Open_ES" else flat(state.own.sigma)
        np.testing.assert_allclose(sigma, jnp.broadcast_to(theirs.std, 10), rtol=1e-5)


# xNES and MA-ES keep the noise that they asked with for what they are told.
@pytest.mark.parametrize("name", mostly_slow(["Open_ES", "CMA_ES", "xNES", "MA_ES"], "MA_ES"))
def test_a_run_is_evosaxs_own(name):
    """The same keys give the same trajectory as evosax's own loop; within a scan, too."""
    strategy = getattr(algorithms, name)(population_size=MEMBERS, solution=MEMBER)
    params = strategy.default_params
    start = strategy.init(jax.random.key(1), MEMBER, params)
    algorithm = genetics.from_evosax(strategy, start)
    first = algorithm.init(population(), jnp.full(MEMBERS, -jnp.inf))
    step = partial(genetics.generation, algorithm, genetics.scored(score))
    state, theirs = first, start
    for turn in range(5):
        state = step(jax.random.key(3), state)
        ask_key, tell_key = jax.random.split(jax.random.split(jax.random.fold_in(jax.random.key(3), turn))[0])
        members, theirs = strategy.ask(ask_key, theirs, params)
        losses = -score(members)
        theirs, _ = strategy.tell(tell_key, members, losses, theirs, params)
        np.testing.assert_allclose(state.fitness, -losses, rtol=1e-5)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), state.own, theirs)
    turn = lambda state, _: (step(jax.random.key(3), state), None)  # noqa: E731
    scanned = jax.jit(lambda state: jax.lax.scan(turn, state, length=5)[0])(first)
    if name != "CMA_ES":  # The eigenvectors of its first covariances, nearly the identity, hang on the last bits.
        np.testing.assert_allclose(scanned.own.mean, theirs.mean, rtol=1e-3, atol=1e-4)


def test_evosax_makes_small_what_is_made_large_here():
    strategy = algorithms.CMA_ES(population_size=MEMBERS, solution=MEMBER)
    algorithm = genetics.from_evosax(strategy, strategy.init(jax.random.key(0), MEMBER, strategy.default_params))
    step = lambda state, _: (genetics.generation(algorithm, genetics.scored(score), jax.random.key(1), state), None)  # noqa: E731
    state = algorithm.init(population(), jnp.full(MEMBERS, -jnp.inf))
    state = jax.jit(lambda state: jax.lax.scan(step, state, length=150)[0])(state)
    np.testing.assert_allclose(flat(strategy.get_mean(state.own)), 2.0, atol=0.1)
    with pytest.raises(ValueError, match="the strategy is for a population of 12, not of 4"):
        algorithm.init(jax.tree.map(lambda leaf: leaf[:4], population()), jnp.zeros(4))
