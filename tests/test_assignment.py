"""An assignment is as good as SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from jevo.genetics import assignment
from jevo.genetics.assignment import assign
from tests.marks import mostly_slow

solved = jax.jit(assign)
solved_together = jax.jit(jax.vmap(assign))
KINDS = {
    "strangers": lambda rng, n: rng.normal(size=(n, n)),
    "relatives": lambda rng, n: rng.normal(0, 0.1, (n, n)) - np.eye(n)[rng.permutation(n)],
    "few values": lambda rng, n: rng.integers(0, 3, (n, n)),
    "all alike": lambda rng, n: np.full((n, n), 7.0),
    "rows alike": lambda rng, n: np.tile(rng.normal(size=n), (n, 1)),
    "products": lambda rng, n: np.outer(rng.normal(size=n), rng.normal(size=n)),
    "products of ranks": lambda rng, n: np.outer(np.arange(n), np.arange(n)),
    "an outlier": lambda rng, n: rng.normal(size=(n, n)) + 1e6 * (np.arange(n * n).reshape(n, n) == n),
    "sparse": lambda rng, n: rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.1),
    "huge": lambda rng, n: 1e30 * rng.normal(size=(n, n)).clip(-1, 1),
    "tiny": lambda rng, n: 1e-20 * rng.normal(size=(n, n)),
}


def require_best(costs, columns):
    """Each column once, and no more in all than SciPy's, to what costs are compared to."""
    costs = np.asarray(costs, np.float64)
    n = len(costs)
    np.testing.assert_array_equal(np.sort(columns), np.arange(n))
    best = costs[linear_sum_assignment(costs)].sum()
    assert costs[np.arange(n), columns].sum() - best <= n * np.ptp(costs) * 2**-24


@pytest.mark.parametrize("n", mostly_slow([1, 2, 3, 17, 100, 257], 2, 17))
@pytest.mark.parametrize("kind", KINDS)
def test_it_costs_no_more_than_scipys(kind, n):
    costs = np.stack([KINDS[kind](np.random.default_rng(seed), n) for seed in range(8)]).astype(np.float32)
    together = solved_together(costs)
    for one, columns in zip(costs, together, strict=True):
        require_best(one, columns)
        np.testing.assert_array_equal(solved(one), columns)


@given(st.integers(0, 2**31), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_whole_costs_with_many_ties_are_solved_exactly(seed, most):
    costs = np.random.default_rng(seed).integers(-most, most + 1, (6, 6)).astype(np.float32)
    require_best(costs, solved(costs))


def test_side_by_side_it_is_what_it_is_alone():
    """As on a GPU, where all of a batch take steps until the last is done."""
    rng = np.random.default_rng(0)
    costs = np.stack([make(rng, 12) for make in KINDS.values()]).astype(np.float32)
    together = jax.jit(jax.vmap(assignment._solved))(costs)
    np.testing.assert_array_equal(together, [solved(one) for one in costs])
    np.testing.assert_array_equal(jax.jit(jax.vmap(jax.vmap(assign)))(costs[None]), together[None])


def test_it_is_solved_within_a_loop_and_for_a_gradient_that_passes_it_by():
    costs = jnp.asarray(KINDS["strangers"](np.random.default_rng(1), 9), jnp.float32)
    scanned = jax.lax.scan(lambda carry, one: (carry, assign(one)), 0, jnp.stack([costs, costs.T]))[1]
    np.testing.assert_array_equal(scanned, [solved(costs), solved(costs.T)])
    chosen = lambda costs: costs[jnp.arange(9), assign(jax.lax.stop_gradient(costs))].sum()  # noqa: E731
    assert float(jax.grad(chosen)(costs).sum()) == 9
