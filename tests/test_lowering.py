"""Every experiment's programs can be made for TPUs and for CUDA: lowered here, on a machine that has neither."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jevo.data.datasets import load
from jevo.data.task import to_device
from jevo.experiments import autoencoder, hybrid, hyperparams, masks
from jevo.hyperparams import Job, Mixed, Site, Training, Worker, threads
from jevo.hyperparams.worker import Pupil
from jevo.runs.loop import _block

PLATFORMS = ("tpu", "cuda")


@pytest.fixture(params=PLATFORMS)
def platform(request, monkeypatch):
    """What a program is made for. Where jevo asks on what it runs, it is told this."""
    name = {"tpu": "tpu", "cuda": "gpu"}[request.param]
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    # The checker takes a vmapped loop over chunks of keys for keys used twice.
    with jax.debug_key_reuse(False):
        yield request.param


def rarely(*variants):
    return [pytest.param(variant, marks=pytest.mark.slow) for variant in variants]


def lower(contestants, kept, platform):
    """Lower the first generation and a block of every phase of every contestant."""
    for contestant in contestants.values():
        for depth, phase in enumerate(contestant.phases):
            data = phase.data([kept] * depth)
            start, block = jax.jit(phase.stage.start), jax.jit(_block(phase.stage.step))
            for traced in (start.trace(data), block.trace(jax.eval_shape(phase.stage.start, data), data, 0)):
                traced.lower(lowering_platforms=(platform,))


@pytest.fixture(scope="module")
def digits():
    return load("digits", None)


@pytest.mark.parametrize(
    "settings",
    [
        {"reference": True},
        *rarely(
            {"channels": (4,), "mask": "mask_flip", "chunk": 4},
            {"crossover": "one_point", "mates": 2, "mutation": "redraw", "selection": "tournament"},
            {"crossover": "layer", "fitness": "accuracy", "batches": "fixed", "selection": "roulette", "lucky": 2},
        ),
    ],
    ids=lambda settings: "-".join(settings),
)
def test_masks(settings, digits, platform):
    config = masks.Config(population=20, generations=6, hidden=(8,), validate_every=2, **settings)
    net = masks.network(config, digits.train.x.shape[1:], len(digits.classes))
    data = masks.Data(to_device(digits), net.init(jax.random.key(0)))
    lower(masks.contestants(config, net, data, digits), None, platform)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        *rarely({"network": "cnn", "channels": (2, 4)}, {"network": "logistic", "mate": "uniform"}, {"mate": "clone"}),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())) or "default",
)
def test_hybrid(settings, digits, platform):
    config = hybrid.Config(members=6, cycles=3, steps=6, legs=2, hidden=(8,), repeats=2, **settings)
    net = hybrid.network(config, digits.train.x.shape[1:], len(digits.classes))
    lower(hybrid.contestants(config, net, to_device(digits), digits), None, platform)


@pytest.mark.parametrize(
    "settings",
    [{}, *rarely({"method": "ga"}, {"target": "image"})],
    ids=lambda settings: "-".join(settings.values()) or "default",
)
def test_autoencoder(settings, digits, platform):
    config = autoencoder.Config(shape=(64, 8, 4), population=6, generations=3, steps=4, images=50, **settings)
    task = to_device(digits, 0.0, digits.top)
    found = autoencoder.contestants(config, (64, 8, 4), task, digits)
    first = autoencoder.programs(config, autoencoder.layers(config, (64, 8, 4)), "ga-sgd")[0].first()
    lower(found, SimpleNamespace(champion=first), platform)


@pytest.mark.parametrize("name", ["mlp", *rarely("dense", "cnn")])
def test_hyperparams(name, digits, platform):
    config, space, task = hyperparams.Config(space=name), hyperparams.read_space(name), to_device(digits)
    trainable: Mixed = hyperparams.mixed(config, space, task, digits, Site("cpu", threads()))
    genomes = [space.decode(space.init(jax.random.key(seed))) for seed in range(4)]
    worker = Worker(task, Training(config.batch_size, config.patience))
    for batch in trainable.plan(genomes).batches[:2]:
        pupils = tuple(Pupil(i, 0, trainable.architecture(genomes[i])[0], 0) for i in batch.members)
        worker.traced(Job(batch.program, pupils)).lower(lowering_platforms=(platform,))


def test_what_only_a_cpu_can_do_would_be_noticed(platform):
    """The check can fail: a program that calls the host is not lowered for another device."""
    call = jax.jit(lambda x: jax.pure_callback(np.sin, x, x)).trace(jax.ShapeDtypeStruct((2,), np.float32))
    with pytest.raises(ValueError, match="different from the lowering platform"):
        call.lower(lowering_platforms=(platform,))
