"""Every experiment's programs can be made for TPUs and for CUDA: lowered here, on a machine that has neither.

The tests of each experiment lower what its other settings make.
"""

import jax
import numpy as np
import pytest

from jevo.experiments import EXPERIMENTS, experiment
from tests.lowering import PLATFORMS, lower, pretended


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment(name, platform):
    found = experiment(name)
    config = found.config.from_preset("smoke")
    lower(found, config, found.dataset(config), platform)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_only_a_cpu_can_do_would_be_noticed(platform):
    """The check can fail: a program that calls the host is not lowered for another device."""
    call = jax.jit(lambda x: jax.pure_callback(np.sin, x, x)).trace(jax.ShapeDtypeStruct((2,), np.float32))
    with pretended(platform), pytest.raises(ValueError, match="different from the lowering platform"):
        call.lower(lowering_platforms=(platform,))
