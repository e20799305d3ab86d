"""A champion for whoever has no jevo: the same arrays bit for bit, the same answers from the lines on its card."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from flax import nnx
from safetensors.numpy import load_file, save_file

from jevo import bits, data, genetics, networks, runs, training
from jevo.data.values import Values
from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, autoencoder, champion, elsewhere, experiment, hybrid, masks
from jevo.networks import ACTIVATIONS
from jevo.runs import from_safetensors
from jevo.runs.arguments import from_settings
from jevo.runs.champion import Saved
from jevo.runs.own import Given
from jevo.runs.portable import CARD, WEIGHTS, Portable, to_bytes
from jevo.runs.record import read_result
from jevo.training import predict
from tests.test_evolve import evolve


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def on_the_card(folder, x, monkeypatch):
    """What the card's lines leave, run on examples in a folder with nothing else."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), re.DOTALL)
    assert "jevo" not in code.replace("jevo.networks.to_nnx", "")
    there = folder / "elsewhere"
    there.mkdir()
    shutil.copy(folder / WEIGHTS, there)
    np.save(there / "x.npy", x)
    monkeypatch.chdir(there)
    names = {}
    exec(compile(code, CARD, "exec"), names)
    return names


def answers_as_before(folder, network=None, monkeypatch=None):
    """Hold that the lines on the card of a run answer as its champion does."""
    answer, read = champion(folder, network=network)
    config = from_settings(experiment(read["experiment"]).config, read["config"], "result")
    x = experiment(read["experiment"]).dataset(config).test.x[:40]
    if read["data"]["values"]["offset"] is not None:
        x = x + np.asarray(read["data"]["values"]["offset"])
    said, found = answer(x), on_the_card(folder, x, monkeypatch)
    if said.probabilities is not None:
        np.testing.assert_allclose(found["probabilities"], said.probabilities, atol=1e-5)
        assert [found["classes"][i] for i in said.classes] == [
            found["classes"][i] for i in found["outputs"].argmax(axis=1)
        ]
    if said.reconstructions is not None:
        np.testing.assert_allclose(found["reconstructions"], said.reconstructions, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_finished_run_leaves_a_champion_that_answers_without_jevo(name, smoke, tmp_path, monkeypatch):
    folder = shutil.copytree(smoke(name), tmp_path / "run")
    read = read_result(folder)
    saved = Saved(folder, from_settings(experiment(name).config, read["config"], "result"), read)
    portable, found = experiment(name).portable(saved), from_safetensors(folder / WEIGHTS)
    assert to_bytes(portable) == (folder / WEIGHTS).read_bytes()
    assert_equal(found.params, portable.params)
    assert_equal(from_safetensors(folder / WEIGHTS, like=portable.params).params, portable.params)
    assert all("float" in str(array.dtype) for array in load_file(folder / WEIGHTS).values())
    answers_as_before(folder, monkeypatch=monkeypatch)
    card = (folder / CARD).read_text()
    assert f"{read['control']['name']} (control)" in card
    (settings,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    from_settings(experiment(name).config, yaml.safe_load(settings), "the card")
    assert str(smoke(name)) not in card, "where the run was is no one's business"
    mine = saved._replace(config=replace(saved.config, data="/home/me/own.npz"))
    assert "data: own.npz\n" in experiment(name)._card(mine, portable)


@pytest.mark.parametrize("name", ["masks", "weights", "hybrid"])
def test_its_outputs_are_those_of_predict_to_the_last_bit(name, smoke):
    answer, read = champion(smoke(name))
    config = from_settings(experiment(name).config, read["config"], "result")
    dataset = experiment(name).dataset(config)
    contest = experiment(name).contest(config, dataset, Given.usual(dataset))
    found, x = from_safetensors(smoke(name) / WEIGHTS), contest.dataset.test.x

    def logits(x):
        made = contest.network.apply(found.params, found.inputs(x))
        return made if found.gain is None else found.gain * made

    np.testing.assert_array_equal(predict(logits, x), answer(x).probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mask_rs", "mask_flip"])
def test_masks_are_the_weights_as_used(kind, tmp_path, monkeypatch):
    config = masks.Config.from_preset("smoke", mask=kind, generations=2, channels=(2,), out=tmp_path / "run")
    masks.run(config)
    kernels = [array for name, array in load_file(tmp_path / "run" / WEIGHTS).items() if name.endswith("kernel")]
    assert {name for name in load_file(tmp_path / "run" / WEIGHTS) if "input" not in name} == {
        "conv_0.kernel", "layer_0.kernel", "layer_1.kernel",
    }  # fmt: skip
    assert any((kernel == 0).any() for kernel in kernels)
    answers_as_before(tmp_path / "run", monkeypatch=monkeypatch)


@pytest.mark.slow
def test_two_classes_of_one_logit_and_numbers_far_from_zero(tmp_path, monkeypatch):
    """Also what float32 cannot hold as it is: the offset goes first."""
    draw = np.random.default_rng(0)
    x = 1.7e9 + draw.normal(size=(120, 3))
    own = data.from_arrays(x, np.where(x[:, 0] > 1.7e9, "right", "left"), name="clock")
    config = hybrid.Config(network="logistic", population=2, cycles=2, steps=20, legs=1, lr=0.05, out=tmp_path / "run")
    hybrid.run(config, dataset=own)
    answer, read = champion(tmp_path / "run")
    found = on_the_card(tmp_path / "run", x[:20], monkeypatch)
    np.testing.assert_allclose(found["probabilities"], answer(x[:20]).probabilities, atol=1e-5)
    portable = from_safetensors(tmp_path / "run" / WEIGHTS)
    values = Values.from_json(read["data"]["values"], (3,))
    np.testing.assert_array_equal(portable.inputs(x[:20]), portable._replace(offset=None).inputs(values.stored(x[:20])))


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_are_jevos(name):
    h = np.linspace(-9, 9, 41, dtype=np.float32)
    found = eval(elsewhere.ACTIVATIONS[name], {"np": np, "h": h})
    np.testing.assert_allclose(found, ACTIVATIONS[name](jnp.asarray(h)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("size", [2, 3])
def test_convolutions_are_jevos(stride, same, size):
    from jevo.networks.convolutional import convolve_patches, max_pool

    draw = np.random.default_rng(0)
    x, kernel = (draw.normal(size=s).astype(np.float32) for s in ((5, 7, 6, 3), (size, size, 3, 4)))
    names = {"np": np}
    exec(elsewhere.CONVOLVE, names)
    wanted = convolve_patches(jnp.asarray(x.transpose(3, 1, 2, 0)), jnp.asarray(kernel), stride, same)
    found = names["convolve"](x, kernel, stride, same)
    np.testing.assert_allclose(found, wanted.transpose(3, 1, 2, 0), atol=1e-5)
    np.testing.assert_allclose(names["pool"](found), max_pool(wanted).transpose(3, 1, 2, 0), atol=1e-5)


@pytest.mark.slow
def test_ones_own_network_is_there_too(tmp_path, monkeypatch):
    class Net(nnx.Module):
        def __init__(self, shape, outputs, rngs):
            sizes = [shape[0] * shape[1], 6, outputs]
            self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(sizes)])

        def __call__(self, x):
            return self.layers[1](nnx.relu(self.layers[0](x.reshape(len(x), -1))))

    config = experiment("weights").config.from_preset("smoke", generations=2, out=tmp_path / "run")
    experiment("weights").run(config, network=Net)
    x = data.load("digits").test.x[:20]
    answer, _ = champion(tmp_path / "run", network=Net)
    found = from_safetensors(tmp_path / "run" / WEIGHTS)
    assert set(found.params["layers"]) == {0, 1}
    assert "layers.0.kernel" in load_file(tmp_path / "run" / WEIGHTS)
    here = on_the_card(tmp_path / "run", x, monkeypatch)
    assert_equal(jax.tree.map(jnp.asarray, here["params"]), found.params)
    module = Net((8, 8, 1), 10, nnx.Rngs(0))
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, here["params"])
    nnx.update(module, state)
    logits = module(jnp.asarray(here["h"])) * here["t"]["output_scale"]
    np.testing.assert_allclose(jax.nn.softmax(logits), answer(x).probabilities, atol=1e-5)


@pytest.mark.slow
def test_a_champion_of_evolve_comes_back(tmp_path):
    found = evolve(tmp_path / "run", generations=3)
    assert_equal(from_safetensors(tmp_path / "run" / WEIGHTS).params, found.champion)
    said = subprocess.run(
        [sys.executable, "-c", re.findall(r"```python\n(.*?)```", (tmp_path / "run" / CARD).read_text(), re.DOTALL)[0]],
        cwd=tmp_path / "run", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "layer_0.kernel float32 (3, 4)" in said.stdout


def test_any_pytree_comes_back_bit_for_bit(key, tmp_path):
    """Bits, keys, named tuples, lists, names with dots, names that are taken, bfloat16, and no numbers."""
    optimizer = __import__("optax").adam(1e-2)
    tree = {
        "learner": training.learner(networks.mlp([3, 2]).init, optimizer)(key),
        "mask": bits.pack(jnp.arange(40).reshape(5, 8) % 3 == 0),
        "drawn": jax.random.key(7),
        "parts": [jnp.float32(-0.0), jnp.array([jnp.nan, jnp.inf])],
        "a.b": {"c": jnp.int32(3)},
        "a": {"b.c": jnp.ones((2, 1), jnp.bfloat16)},
        "input_mean": jnp.zeros((0, 4)),
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(to_bytes(Portable(tree, mean=jnp.ones((1, 3)), scale=jnp.float32(2))))
    found = from_safetensors(path, like=tree)
    data_of = lambda tree: {**tree, "drawn": jax.random.key_data(tree["drawn"])}  # noqa: E731
    assert_equal(data_of(found.params), data_of(tree))
    assert_equal(found.mean, jnp.ones((1, 3)))
    plain = from_safetensors(path).params
    np.testing.assert_array_equal(plain["mask"], bits.unpack(tree["mask"]))
    assert set(plain["parts"]) == {0, 1}
    path.write_bytes(to_bytes(Portable(jnp.arange(3.0))))
    assert_equal(from_safetensors(path).params, jnp.arange(3.0))
    with pytest.raises(InputError, match="cannot hold"):
        to_bytes(Portable({"w": jnp.zeros(2, jnp.int4)}))


def test_what_is_no_champion_is_a_line(smoke, tmp_path):
    path, whole = tmp_path / WEIGHTS, (smoke("masks") / WEIGHTS).read_bytes()
    params = from_safetensors(smoke("masks") / WEIGHTS).params
    more = {**params, "layer_2": params["layer_1"]}
    wrong = {**params, "layer_1": {"kernel": params["layer_1"]["kernel"].T}}
    for write, what, like in (
        (lambda: None, "cannot be read", None),
        (lambda: path.mkdir(), "is a folder", None),
        (lambda: (path.rmdir(), path.write_bytes(b""))[1], "is damaged, or no safetensors file", None),
        (lambda: path.write_bytes(whole[: len(whole) // 2]), "is damaged, or no safetensors file", None),
        (lambda: path.write_bytes(b"\xff" * 1000), "is damaged, or no safetensors file", None),
        (lambda: save_file({"a": np.ones(2)}, path), "no champion that jevo wrote", None),
        (lambda: save_file({"a": np.ones(2)}, path, {"jevo": "7"}), "no champion that jevo wrote", None),
        (lambda: save_file({"a": np.ones(2)}, path, {"jevo": '{"format": 9, "sha256": ""}'}), "a later jevo", None),
        (lambda: save_file({"a": np.ones(2)}, path, {"jevo": '{"format": 1, "sha256": ""}'}), "is damaged", None),
        (lambda: path.write_bytes(whole), "of another structure: layer_2.kernel", more),
        (lambda: path.write_bytes(whole), r"has layer_1.kernel float32 \[8, 10\], but takes float32 \[10, 8\]", wrong),
    ):  # fmt: skip
        write()
        with pytest.raises(InputError, match=what) as caught:
            from_safetensors(path, like)
        assert "\n" not in str(caught.value)


def test_no_bit_of_it_changes_in_silence(smoke, tmp_path):
    path, whole = tmp_path / WEIGHTS, (smoke("masks") / WEIGHTS).read_bytes()
    for place in [*range(0, 700, 7), *range(700, len(whole), len(whole) // 20), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=WEIGHTS):
            from_safetensors(path)


def test_an_array_that_such_files_lack_is_said_and_no_lost_run(tmp_path, capsys):
    def score(members):
        return -jnp.abs(members["n"].astype(jnp.float32)).sum(axis=1)

    found = runs.evolve(
        tmp_path / "run", genetics.random_search(lambda key: {"n": jnp.zeros(2, jnp.int4)}, elites=1),
        lambda key: {"n": jnp.ones(2, jnp.int4)}, evaluate=genetics.scored(score), population=3, generations=1,
    )  # fmt: skip
    assert found.champion["n"].dtype == jnp.int4
    assert "only in jevo's own form: n is int4" in capsys.readouterr().out
    assert not (tmp_path / "run" / WEIGHTS).exists()


@pytest.mark.slow
def test_an_autoencoder_of_several_activations(tmp_path, monkeypatch):
    settings = {"activation": ("tanh", "relu"), "output": "sigmoid", "bias": False, "generations": 1}
    autoencoder.run(autoencoder.Config.from_preset("smoke", out=tmp_path / "run", **settings))
    answers_as_before(tmp_path / "run", monkeypatch=monkeypatch)


class Drops(nnx.Module):
    """With a list of layers, dropout and a layer of layers."""

    def __init__(self, width, rngs):
        self.layers = nnx.List([nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)])
        self.drop, self.norm = nnx.Dropout(0.5, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, x):
        return self.layers[1](self.drop(nnx.relu(self.norm(self.layers[0](x)))))


def test_a_member_is_a_module_again(key):
    def make(rngs):
        return Drops(5, rngs)

    network, x = networks.from_nnx(make), jnp.linspace(-1, 1, 12).reshape(3, 4)
    params = jax.tree.map(lambda leaf: leaf + 0.25, network.init(key))
    module = networks.to_nnx(make, params)
    np.testing.assert_array_equal(module(x), network.apply(params, x))
    assert_equal(nnx.to_pure_dict(nnx.state(module, nnx.Param)), params)
    plain = networks.to_nnx(make, jax.tree.map(np.asarray, params))
    np.testing.assert_array_equal(plain(x), module(x))
    module.train()
    assert (module(x) != network.apply(params, x)).any(), "its dropout has a stream"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda p: {**p, "norm": {"scale": p["norm"]["scale"]}}, r"norm.bias is missing, but .* has float32 \[5\]"),
        (lambda p: {**p, "more": jnp.ones(3)}, r"more is float32 \[3\], but the module has missing"),
        (
            lambda p: {**p, "layers": {**p["layers"], 1: {**p["layers"][1], "kernel": jnp.ones((6, 2))}}},
            r"layers.1.kernel is float32 \[6, 2\], but the module has float32 \[5, 2\]",
        ),
        (
            lambda p: {**p, "norm": {**p["norm"], "bias": p["norm"]["bias"].astype(jnp.bfloat16)}},
            r"norm.bias is bfloat16 \[5\], but the module has float32 \[5\]",
        ),
    ],
)
def test_params_of_another_module_are_a_line(change, what, key):
    def make(rngs):
        return Drops(5, rngs)

    with pytest.raises(InputError, match=what) as caught:
        networks.to_nnx(make, change(networks.from_nnx(make).init(key)))
    assert "\n" not in str(caught.value)


def test_a_member_is_what_linen_takes(key):
    from flax import linen

    module, x = linen.Dense(3), jnp.ones((2, 4))
    network = networks.from_linen(module, x)
    params = network.init(key)
    np.testing.assert_array_equal(module.apply({"params": params}, x), network.apply(params, x))
