"""What is read of a checkpoint or a champion is what was saved, or it is refused."""

import gc
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.svm import SVC

from jevo.errors import InputError
from jevo.runs import checkpoint
from jevo.runs.checkpoint import Checkpoints, load_model, save_model
from tests import damage
from tests.marks import mostly_slow


def tree():
    """Arrays of every kind that a carry has."""
    draw = np.random.default_rng(0)
    return {
        "bits": jnp.asarray(draw.integers(0, 256, (3, 5, 7)), jnp.uint8),
        "half": jnp.asarray(draw.normal(size=(2, 3)), jnp.bfloat16),
        "weights": jnp.asarray(draw.normal(size=(4, 6)), jnp.float32).at[0, 0].set(jnp.nan).at[0, 1].set(-0.0),
        "count": jnp.int32(-3),
        "truth": jnp.array([True, False]),
        "keys": jax.random.split(jax.random.key(0), 3),
        "host": np.asarray(1.5, np.float32),
    }


@pytest.fixture(params=["host", "device"])
def checksum(request, monkeypatch):
    """The checksum, wherever it is computed."""
    monkeypatch.setattr(checkpoint, "_ON_HOST", 2**25 if request.param == "host" else -1)
    return checkpoint._checksum


def test_host_and_device_find_the_same_checksum(monkeypatch):
    for label in (0, 7, 2**31 - 1):
        found = checkpoint._checksum(tree(), label)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "_ON_HOST", -1)
            assert np.array_equal(checkpoint._checksum(tree(), label), found)
    assert found.shape == (len(tree()), 2)
    assert checkpoint._checksum({}, 0).shape == (0, 2)


def test_every_changed_bit_changes_the_checksum(checksum):
    leaves = {name: leaf for name, leaf in tree().items() if name != "keys" and np.size(leaf)}
    whole = checksum(leaves, 0)
    for name, leaf in leaves.items():
        raw = np.asarray(leaf).tobytes()
        for place in range(0, len(raw) * 8, 1 if len(raw) < 20 else 7):
            if name == "truth" and place % 8:
                continue  # A truth value has one bit.
            changed = bytearray(raw)
            changed[place // 8] ^= 1 << place % 8
            other = np.frombuffer(bytes(changed), np.asarray(leaf).dtype).reshape(np.shape(leaf))
            found = checksum({**leaves, name: jnp.asarray(other)}, 0)
            assert (found != whole).any(axis=1).sum() == 1


def test_places_labels_and_leaves_count(checksum):
    x = jnp.arange(1, 7, dtype=jnp.float32)
    found = [
        checksum(of, label).tolist()
        for of, label in (({"a": x, "b": x}, 0), ({"a": x, "b": x}, 1), ({"a": x[::-1], "b": x}, 0), ({"a": x}, 0))
    ]
    assert len({str(each) for each in found}) == 4
    assert found[0][0] != found[0][1]
    assert jnp.array_equal(checksum({"a": x.reshape(2, 3)}, 0), checksum({"a": x}, 0))


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, tree())
    generation, found, said = checkpoints.restore(tree())
    assert (generation, said) == (3, [])
    assert damage.bits(found) == damage.bits(tree())


def test_a_checkpoint_under_another_number_is_no_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, tree())
    (tmp_path / "3").rename(tmp_path / "4")
    with pytest.raises(InputError, match="no checkpoint in"):
        checkpoints.restore(tree())


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "_sharding", "array_metadatas", "commit_success.txt"])
@pytest.mark.parametrize("content", [None, b"", b"{nonsense"])
def test_what_lies_beside_the_arrays_costs_nothing(name, content, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, tree())
    path = tmp_path / "3" / name
    if content is None:
        path.unlink(missing_ok=True)
    elif path.exists():
        path.write_bytes(content)
    assert checkpoints.restore(tree())[0] == 3


@pytest.mark.parametrize("name", mostly_slow(damage.ALL, "masks"))
def test_no_damage_is_read_as_something_else(name, smoke, tmp_path, monkeypatch):
    """The long form is `python -m tests.damage`."""
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # Orbax's tasks, when they are collected.
    with jax.debug_key_reuse(False):
        outcomes = damage.batter(damage.sets_of(name, smoke(name), tmp_path), 24, seed=1)
        gc.collect()
    # Some damage matters, whatever the run has saved: of hyperparams it is the champion alone.
    assert sum(outcomes.values()) == 24
    assert any(outcome == "refused" for _, outcome in outcomes)


def test_a_damaged_model_is_refused(tmp_path):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(30, 2)), np.arange(30) % 2
    model = SVC().fit(x, y)
    path = tmp_path / "svm.skops"
    save_model(path, model)
    raw, said = path.read_bytes(), model.predict(x)
    for place in range(0, len(raw), 97):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        try:
            found = load_model(path)
        except InputError:
            continue
        np.testing.assert_array_equal(found.predict(x), said)
    from skops import io as skops

    buffer = io.BytesIO(skops.dumps(model))
    path.write_bytes(buffer.getvalue())  # Not of jevo.
    with pytest.raises(InputError, match="cannot be read"):
        load_model(path)
