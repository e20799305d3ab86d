"""A population spread over eight devices, which are pretended on one CPU in processes of their own."""

import json
import os
import re
import subprocess
import sys

import pytest

from jevo.errors import InputError
from jevo.runs.processes import population_mesh
from tests.commands import ROOT, RUNS, command, result
from tests.commands import devices as pretended

ENGINE = """
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
from jevo import devices, genetics, population as pop
from jevo.networks import masked, mlp
from jevo.runs.processes import population_mesh
from jevo.training import evaluate, log_likelihood

mesh = population_mesh(0)
assert mesh.size == 8
keys = jax.random.split(jax.random.key(0), 4)
network = mlp((20, 12, 4), bias=False)
over = masked(network, network.init(keys[0]))
x, y = jax.random.normal(keys[1], (50, 20)), jnp.arange(50) % 4

def run(members, survivors, rescore, mesh):
    algorithm = genetics.genetic(
        genetics.truncation(0.25), genetics.uniform(), genetics.flip(0.01), elites=survivors, rescore=rescore
    )
    def score(members, x, places=None):
        return evaluate(lambda genome: log_likelihood(over.apply(genome, x), y), members, 8, places)
    def start(key, x):
        members_ = pop.init(key, over.init, members)
        return algorithm.init(members_, score(members_, x))
    def block(key, state, x):
        step = lambda i, state: genetics.generation(algorithm, lambda _, m, p: score(m, x, p), key, state)
        return jax.lax.fori_loop(0, 5, step, state)
    with devices.spread(mesh):
        state = jax.jit(lambda key, x: start(key, x))(keys[2], x)
        program = jax.jit(lambda key, state, x: block(key, state, x)).lower(keys[3], state, x).compile()
        return program(keys[3], state, x), program.as_text()

for case in json.loads(sys.argv[1]):
    (alone, _), (spread, hlo) = run(*case, None), run(*case, mesh)
    jax.tree.map(np.testing.assert_array_equal, alone, spread)
    kinds = "all-gather|all-reduce|collective-permute|all-to-all|reduce-scatter"
    moved = re.findall(r"= (\\(.*?\\)|\\S+?\\{\\S*) (" + kinds + r")\\(", hlo)
    print(json.dumps([str(spread.fitness.sharding.spec), moved]))
"""


PLAIN = """
import contextlib
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jevo import genetics
from jevo.training import evaluate

algorithm = genetics.genetic(genetics.truncation(0.5), genetics.uniform(), genetics.gaussian(0.1), elites=2)
score = genetics.scored(lambda members: evaluate(lambda member: -jnp.sum(member["w"]), members, 2))
population, fitness = {"w": jnp.arange(40.0).reshape(8, 5)}, jnp.arange(8.0)

def run(state):
    for _ in range(3):
        state = genetics.generation(algorithm, score, jax.random.key(0), state)
    return state

alone = run(algorithm.init(population, fitness))
auto = (AxisType.Auto,)
meshes = [
    jax.make_mesh((8,), ("x",)), jax.make_mesh((4, 2), ("x", "y")), jax.make_mesh((8,), ("population",)),
    jax.make_mesh((8,), ("x",), axis_types=auto), jax.make_mesh((8,), ("population",), axis_types=auto),
]
for mesh in meshes:
    shares = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    members, scores = jax.device_put((population, fitness), shares)
    for context in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        with context:
            found = run(algorithm.init(members, scores))
        jax.tree.map(np.testing.assert_array_equal, alone, found)
"""


def run(name, *settings, out, devices, check=True):
    """A small run of an experiment on so many devices."""
    return subprocess.run(
        command(name, *settings, out=out), cwd=ROOT, capture_output=True, text=True, env=on(devices), check=check
    )


def on(devices):
    return os.environ | pretended(devices)


def test_eight_devices_do_what_one_does():
    """Also where the population does not divide evenly, and where survivors are not scored again: bit for bit."""
    cases = [(64, 2, True), (64, 0, True), (61, 3, False), (5, 1, True)]
    engine = [sys.executable, "-c", ENGINE, json.dumps(cases)]
    lines = subprocess.run(engine, capture_output=True, text=True, env=on(8), check=True).stdout.splitlines()
    placed, moved = json.loads(lines[0])
    assert "population" in placed
    # Each generation gives all devices the words of its breeders, a quarter, and the fitness; nothing else is as large.
    shapes = " ".join(shape for shape, _ in moved)
    assert shapes.count("u32[16,") == 2
    assert "u32[64," not in shapes
    assert all(kind in ("f32", "u32", "s32", "pred") for kind in re.findall(r"(\w+)\[", shapes))


@pytest.mark.slow
def test_plain_calls_take_arrays_on_any_mesh():
    """Of Explicit axes, which are what jax.make_mesh makes, and of Auto ones; named as the user likes; set, or not."""
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, env=on(8), check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), RUNS)
def test_an_experiment_does_not_depend_on_the_number_of_devices(name, settings, tmp_path):
    found = {}
    for count in (1, 8):
        done = run(name, "--seed", 3, *settings, out=tmp_path / str(count), devices=count)
        assert f"on {count} x cpu" in done.stdout
        found[count] = result(tmp_path / str(count))
    for split in ("train", "validation", "test"):
        for metric, value in found[1]["metrics"][split].items():
            assert found[8]["metrics"][split][metric] == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_the_networks_of_a_batch_are_spread_over_devices(tmp_path):
    """Eight at once on one device, and two on each of four, are the same batches."""
    search = ["--population", 8, "--generations", 0, "--epochs", 2, "--seed", 1]
    found = []
    for chunk, devices in ((8, 1), (2, 4)):
        out = tmp_path / str(devices)
        run("hyperparams", *search, "--chunk", chunk, "--devices", devices, out=out, devices=8)
        lines = [json.loads(line) for line in (out / "genomes.jsonl").read_text().splitlines()]
        found.append({json.dumps(line["genome"]): line["details"]["curve"][0] for line in lines})
    assert set(found[0]) == set(found[1])
    for genome, curve in found[0].items():
        assert found[1][genome] == pytest.approx(curve, rel=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    def interrupted(out, devices, generations):
        """A run that is interrupted once it has done so many generations."""
        script = f"""
from jevo.experiments.masks import EXPERIMENT
from jevo.runs import loop
from jevo.runs.command import main
real = loop._lines
def lines(values, done, count):
    if done + count > {generations}:
        raise KeyboardInterrupt
    return real(values, done, count)
loop._lines = lines
main(EXPERIMENT)
"""
        arguments = ["--preset", "smoke", "--devices", str(devices), "--out", str(out)]
        return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=on(8))

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert interrupted(whole, 8, 99).returncode == 0
    assert interrupted(broken, 8, 4).returncode == 130
    done = interrupted(broken, 3, 99)
    assert done.returncode == 0
    assert "goes on from generation 4" in done.stdout
    results = [result(out) for out in (whole, broken)]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_more_devices_than_there_are_is_said_plainly():
    with pytest.raises(InputError, match=r"devices is 99, but takes 0 to \d+: so many are there"):
        population_mesh(99)
