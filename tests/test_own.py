"""The user's own network and data: a run of them has all that a run has, and nothing passes for what it is not."""

import sys

import jax
import numpy as np
import pytest
from flax import nnx

from jevo import data, networks
from jevo.errors import InputError
from jevo.experiments import champion, experiment, hybrid, masks, weights
from jevo.experiments.hybrid.contest import contest
from jevo.predict import main as predict
from jevo.runs.own import Given, build_own, find
from jevo.types import Stateful
from tests.commands import deterministic

SOURCE = """
from flax import linen, nnx
from beside import WIDTH

class Residual(nnx.Module):
    def __init__(self, shape, outputs, rngs):
        self.a = nnx.Linear(64, WIDTH, rngs=rngs)
        self.b = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.c = nnx.Linear(WIDTH, outputs, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.a(x.reshape(len(x), -1)))
        return self.c(h + nnx.relu(self.b(h)))

class Dense(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.outputs)(linen.relu(linen.Dense(5)(x.reshape(len(x), -1))))

def dense(shape, outputs):
    return Dense(outputs)

def wider(shape, outputs):
    return Dense(outputs + 1)

class Normed(nnx.Module):
    def __init__(self, shape, outputs, rngs):
        self.a, self.c = nnx.Linear(64, WIDTH, rngs=rngs), nnx.Linear(WIDTH, outputs, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.c(nnx.relu(self.norm(self.a(x.reshape(len(x), -1)))))

class Plain(nnx.Module):
    def __init__(self, shape, outputs, rngs):
        self.a = nnx.Linear(64, outputs, rngs=rngs)

    def __call__(self, x):
        return self.a(x.reshape(len(x), -1))

def broken(shape, outputs):
    return {}["nothing"]

class Averaged(nnx.Module):
    def __init__(self, shape, outputs, rngs):
        self.a, self.c = nnx.Linear(64, WIDTH, rngs=rngs), nnx.Linear(WIDTH, outputs, rngs=rngs)
        self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)

    def __call__(self, x):
        return self.c(nnx.relu(self.norm(self.a(x.reshape(len(x), -1)))))

class DenseAveraged(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x, train):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(5)(x.reshape(len(x), -1)))
        return linen.Dense(self.outputs)(linen.relu(x))

def averaged(shape, outputs):
    return DenseAveraged(outputs)

def stray(shape, outputs):
    return Residual(shape, outputs, nnx.Rngs(0))

def text(shape, outputs):
    return "a network"

NUMBER = 3
"""


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The path of a file of networks, which imports another beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("WIDTH = 6\n")
    (tmp_path / "nets.py").write_text(SOURCE)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return tmp_path / "nets.py"


def smoke(name, folder, **settings):
    found = experiment(name)
    return found.config.from_preset("smoke", out=folder, **settings)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("weights", "dense"),
        pytest.param("masks", "Residual", marks=pytest.mark.slow),
        pytest.param("hybrid", "Residual", marks=pytest.mark.slow),
        pytest.param("hybrid", "dense", marks=pytest.mark.slow),
        pytest.param("hybrid", "Averaged", marks=pytest.mark.slow),
        pytest.param("hybrid", "averaged", marks=pytest.mark.slow),
    ],
)
def test_a_run_of_ones_own_network_is_a_run(name, network, source, tmp_path):
    settings = {"network": f"{source}:{network}", **({"repeats": 1} if name == "hybrid" else {})}
    result = experiment(name).run(smoke(name, tmp_path / "run", **settings))
    answer, _ = champion(tmp_path / "run", network=settings["network"])
    test = data.load("digits").test
    assert np.mean(answer(test.x).classes == test.y) == pytest.approx(result["metrics"]["test"]["accuracy"])
    with pytest.raises(InputError, match="is your own"):
        champion(tmp_path / "run")
    before = deterministic(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    experiment(name).run(smoke(name, tmp_path / "run", **settings))  # From its checkpoints.
    assert deterministic(tmp_path / "run") == before


@pytest.mark.slow
def test_another_source_is_another_run(source, tmp_path, capsys):
    """Also where only what it imports is another, and for predict."""
    config = smoke("weights", tmp_path / "run", network=f"{source}:Residual")
    weights.run(config)
    np.save(tmp_path / "x.npy", data.load("digits").test.x[:2])
    ask = [str(tmp_path / "run"), str(tmp_path / "x.npy")]
    predict([*ask, "--network", f"{source}:Residual"])
    assert len(capsys.readouterr().out.splitlines()) >= 2
    with pytest.raises(InputError, match="contents have changed"):
        champion(tmp_path / "run", network=f"{source}:dense")
    (source.parent / "beside.py").write_text("WIDTH = 7\n")
    del sys.modules["beside"]
    with pytest.raises(InputError, match="network: its contents have changed"):
        weights.run(config)
    with pytest.raises(InputError, match="contents have changed"):
        champion(tmp_path / "run", network=f"{source}:Residual")


def test_a_run_of_jevos_network_takes_no_other(smoke, source):
    with pytest.raises(InputError, match="has one of jevo's"):
        champion(smoke("masks"), network=f"{source}:dense")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nets.py:wider", r"gives float32 \[2, 11\] for two examples of shape \[8, 8, 1\]; it takes float32 \[2, 10\]"),
        ("nets.py:broken", r"KeyError: 'nothing' \(line 44 of .*nets.py\)"),
        ("nets.py:stray", "an NNX module of random numbers of its own"),
        ("nets.py:text", "makes str, but takes a Network"),
        ("nets.py:NUMBER", "is no function or class, but int"),
        ("nets.py:nobody", "has no nobody; it has linen, nnx, WIDTH, Residual"),
        ("nowhere.py:net", "there is no file nowhere.py"),
        ("nowhere:net", "there is no module nowhere"),
        ("cut.py:net", r"SyntaxError: .*\(line 2 of .*cut.py\)"),
        ("nets.py:", "takes FILE.py:NAME"),
    ],
)
def test_a_network_that_cannot_be_used_is_a_line(name, what, source, tmp_path):
    (source.parent / "cut.py").write_text("x = 1\ndef (\n")
    with pytest.raises(InputError, match=what) as caught:
        weights.run(smoke("weights", tmp_path / "run", network=name))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("search", ["perturbation", "strategy"])
def test_layers_that_a_search_cannot_read_are_a_line(search, source, tmp_path):
    with pytest.raises(InputError, match=r"cannot read the layers of your network: the params \['norm'\]"):
        weights.run(smoke("weights", tmp_path / "run", network="nets.py:Normed", search=search))
    assert list((tmp_path / "run").glob("*.json*")) == []


@pytest.mark.parametrize("network", ["Averaged", "averaged"])
@pytest.mark.parametrize("name", ["masks", "weights"])
def test_running_statistics_that_no_search_would_update_are_a_line(name, network, source, tmp_path):
    with pytest.raises(InputError, match=r"has a state beside its weights.* takes no training pass") as caught:
        experiment(name).run(smoke(name, tmp_path / "run", network=f"nets.py:{network}"))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "run").glob("*.json*")) == []


@pytest.mark.slow
def test_masks_that_are_bred_take_any_layers(source, tmp_path):
    masks.run(smoke("masks", tmp_path / "run", network="nets.py:Normed"))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ("Residual", "matched before parents mate: a/kernel"),
        ("dense", "matched before parents mate: Dense_1/kernel"),
        ("Normed", "matched before parents mate: a/kernel"),
        ("Plain", "without alignment"),
    ],
)
def test_ones_own_network_mates_aligned_where_it_can(network, says, source, tmp_path, caplog):
    settings, digits = {"network": f"nets.py:{network}", "repeats": 1}, data.load("digits")
    own = build_own(find(settings["network"])[0], digits.train.x.shape[1:], 10)
    given = Given.usual(digits)._replace(network=own)
    with caplog.at_level("INFO", logger="jevo"):
        found = contest(smoke("hybrid", tmp_path / "run", **settings), digits, given).network
        assert not contest(smoke("hybrid", tmp_path / "run", align=False, **settings), digits, given).network.symmetries
    assert [record.getMessage() for record in caplog.records if says in record.getMessage()]
    assert len(caplog.records) == 1
    assert len(found.symmetries) == (network != "Plain")


def test_settings_that_ones_own_network_does_not_read_are_refused():
    for kind, setting in ((masks.Config, {"hidden": (7,)}), (hybrid.Config, {"dropout": 0.5})):
        with pytest.raises(InputError, match="no effect on a network of your own"):
            kind(network="nets.py:net", **setting)
    with pytest.raises(InputError, match="network is mlpp"):
        hybrid.Config(network="mlpp")


def test_network_and_data_may_be_handed_over(tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    own = data.from_arrays(x, np.where(x[:, 0] > 0, "right", "left"), name="mine")
    make = lambda shape, outputs, rngs: nnx.Linear(*shape, outputs, rngs=rngs)  # noqa: E731
    config = hybrid.Config(population=2, cycles=2, steps=60, legs=1, lr=0.05, out=tmp_path / "run")
    result = hybrid.run(config, dataset=own, network=make)
    assert result["metrics"]["test"]["accuracy"] > 0.9
    assert result["data"]["classes"] == ["left", "right"]
    assert result["config"]["data"] == "mine"
    assert hybrid.run(config, dataset=own, network=make) == result
    answer, _ = champion(tmp_path / "run", network=make)
    assert list(answer(np.array([[3.0, 0, 0], [-3.0, 0, 0]])).classes) == [1, 0]
    other = lambda shape, outputs, rngs: nnx.Linear(*shape, outputs, use_bias=False, rngs=rngs)  # noqa: E731
    with pytest.raises(InputError, match="contents have changed"):
        champion(tmp_path / "run", network=other)
    with pytest.raises(InputError, match="data: its contents have changed"):
        hybrid.run(config, dataset=data.from_arrays(x + 1, np.where(x[:, 0] > 0, "right", "left"), name="mine"),
                   network=make)  # fmt: skip


def test_a_network_is_built_for_the_examples():
    network = build_own(lambda shape, outputs: networks.mlp([shape[0], outputs]), (3,), 2)
    assert network.apply(network.init(jax.random.key(0)), np.zeros((5, 3), np.float32)).shape == (5, 2)


def test_a_state_comes_with_its_update():
    plain = networks.mlp([3, 2])
    broken = plain._replace(init=lambda key: Stateful(plain.init(key), {}), apply=lambda p, x: plain.apply(p.params, x))
    for network in (broken, plain._replace(update=lambda params, x, key: (plain.apply(params, x), params))):
        with pytest.raises(InputError, match="it takes both or none"):
            build_own(network, (3,), 2)


def test_a_name_is_known_by_its_source(source):
    _, one = find(f"{source}:dense")
    assert find("nets.py:dense")[1] == one
    assert find(f"{source}:Residual")[1] != one
    source.write_text(SOURCE + "\n# Changed.\n")
    assert find(f"{source}:dense")[1] != one


def test_arrays_and_sources_are_data():
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (60, 4, 4, 1)).astype(np.uint8), np.arange(60) % 3
    one = data.from_arrays(images, labels, test=(images[:9], labels[:9]), validation=6)
    examples = [{"image": image, "label": label, "id": "x"} for image, label in zip(images, labels, strict=True)]
    other = data.from_source(iter(examples), test=examples[:9], validation=6)
    for part in data.datasets.SPLITS:
        for axis in (0, 1):
            np.testing.assert_array_equal(getattr(one, part)[axis], getattr(other, part)[axis])
    assert one.digest == other.digest
    assert len(one.validation.y) == 6
    for wrong, what in (
        (lambda: data.from_arrays([[1.0], [2.0, 3.0]], [0, 1]), "x_train is no array"),
        (lambda: data.from_arrays(images, labels[:-1]), "x_train has 60 examples and y_train has 59 labels"),
        (lambda: data.from_arrays(images * np.nan, labels), "no finite"),
        (lambda: data.from_source(examples, x="picture"), r"has no 'picture' and 'label', but \['image', 'label', "),
        (lambda: data.from_source([{"image": np.zeros(i), "label": 0} for i in (2, 3)]), "several shapes"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=what):
            wrong()
