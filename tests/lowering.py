"""Programs made for devices that this machine does not have."""

from contextlib import contextmanager

import jax

from jevo.runs.own import Given

PLATFORMS = {"tpu": "tpu", "cuda": "gpu"}
"""What a program is made for, and what JAX calls the backend there."""


@contextmanager
def pretended(platform):
    """Where jevo asks on what it runs, it is told this platform."""
    real = jax.default_backend
    jax.default_backend = lambda: PLATFORMS[platform]
    try:
        # The checker takes a vmapped loop over chunks of keys for keys used twice.
        with jax.debug_key_reuse(False):
            yield
    finally:
        jax.default_backend = real


def lower(experiment, config, dataset, platform):
    """Lower every program of every contestant."""
    with pretended(platform):
        contest = experiment.contest(config, dataset, Given.usual(dataset))
        with contest.resources:
            for contestant in contest.contestants.values():
                for traced in contestant.traced():
                    traced.lower(lowering_platforms=(platform,))
