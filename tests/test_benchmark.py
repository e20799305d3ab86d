"""The benchmark measures what it says: here only that it does so, on sizes that tell nothing."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo.benchmark import __main__ as benchmark
from jevo.benchmark import mask_peers, masks, precision, scaling, timing
from tests.commands import devices

pytestmark = pytest.mark.extras
TINY = ["--budget-s", "0", "--sizes", "6", "5", "3"]
SMALL = {
    "masks": [*TINY, "--populations", "1", "4", "--compare", "6", "--images", "8"],
    "sgd": [*TINY, "--populations", "1", "2", "--compare", "2", "--steps", "2", "--examples", "64"],
    "mating": [*TINY, "--populations", "2", "4", "--compare", "4"],
    "small": ["--budget-s", "0", "--population", "8", "--hidden", "4", "--images", "16", "--block", "3"],
}
OTHERS = {"masks": 3, "sgd": 2, "mating": 3, "small": 3}
"""Peers that need nothing else installed."""


@pytest.fixture
def main(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
        monkeypatch.setattr(timing, "MATMUL", 64)
        with jax.debug_key_reuse(False):  # The same call is timed again and again.
            benchmark.main()

    return run


@pytest.mark.slow
@pytest.mark.parametrize("what", SMALL)
def test_a_benchmark_leaves_a_table_its_figures_and_a_plot(what, main, tmp_path, capsys):
    main(what, *SMALL[what], "--out", str(tmp_path))
    found, printed = json.loads((tmp_path / f"{what}.json").read_text()), capsys.readouterr().out
    rows = found["rows"]
    assert len({row["name"] for row in rows} - {"jevo"}) >= OTHERS[what]
    assert (tmp_path / f"{what}.png").stat().st_size > 5000
    for row in rows:
        seconds = row["seconds"]
        assert 0 < seconds["lower"] <= seconds["median"] <= seconds["upper"]
        assert seconds["rounds"] == timing.FEWEST
        assert row.get("share_of_plain_matmul", 1) > 0
    own = {row["population"]: row for row in rows if row["name"] == "jevo"}
    assert all(row["compile_s"] > 0 for row in own.values())
    for row in rows:
        if row["name"] != "jevo":
            faster = own[row["population"]]["per_second"] / row["per_second"]
            assert found["jevo_is_faster_than"][row["name"]] == faster
            assert f"{faster:.2f} times as fast as {row['name']}" in printed


def test_precisions_are_compared_member_by_member(main, tmp_path, capsys):
    sizes = ["--population", "10", "--images", "50", "--hidden", "8", "--generations", "2"]
    main("precision", *sizes, "--out", str(tmp_path))
    rows = {
        (row["masks"], row["precision"]): row for row in json.loads((tmp_path / "precision.json").read_text())["rows"]
    }
    for masks_are in ("random", "evolved"):
        coarse, fine = (rows[masks_are, name] for name in ("bfloat16", "tensorfloat32"))
        assert 0 < fine["largest_difference"] < coarse["largest_difference"] < 0.1
        assert 0.9 < coarse["rank_correlation"] <= 1
    assert "of the parents the same" in capsys.readouterr().out


def test_rounding_is_that_of_the_hardware():
    from ml_dtypes import bfloat16

    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(precision.as_bfloat16(jnp.asarray(x)), x.astype(bfloat16).astype(np.float32))
    # A TensorFloat-32 has ten bits after the first: the error is at most half of the last one.
    error = np.abs(precision.as_tensorfloat32(jnp.asarray(x)) - x) / np.abs(x)
    assert 2**-12 < error.max() <= 2**-11


@pytest.mark.slow
def test_a_peer_that_computes_something_else_is_found_out(main, monkeypatch, tmp_path):
    honest = mask_peers.numpy_loop
    wrong = {"wrong": lambda problem: honest(problem)._replace(fitness=lambda: honest(problem).fitness() * 1.01)}
    monkeypatch.setattr(masks, "PEERS", wrong)
    with pytest.raises(AssertionError, match="wrong"):
        main("masks", *SMALL["masks"], "--out", str(tmp_path))


def test_a_transfer_while_jevo_is_timed_raises():
    value = np.ones(3)
    with pytest.raises(Exception, match="host-to-device transfer"):
        timing.in_turns({"moves": lambda: jnp.sum(value)}, 0)
    timing.in_turns({}, 0, {"a peer may": lambda: jnp.sum(value)})


def test_an_unknown_benchmark_is_named(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "mask"])
    with pytest.raises(SystemExit) as stopped:
        benchmark.main()
    assert stopped.value.code == 2
    known = "masks, sgd, mating, small, hyperparams, scaling, precision, parity, all"
    message = f"error: benchmark 'mask' is unknown; did you mean masks? known: {known}\n"
    assert capsys.readouterr().err == message


@pytest.mark.slow
def test_mixed_training_is_measured_against_networks_that_learn_alike(tmp_path, capsys, monkeypatch):
    out = tmp_path / "hyperparams.json"
    sizes = ["--data", "digits", "--population", "2", "--generations", "1", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark", "hyperparams", *sizes, "--out", str(tmp_path)])
    benchmark.main()
    (one,) = json.loads(out.read_text())["generations"]
    assert one["faster"] == pytest.approx(one["alone"]["total"] / one["mixed"]["total"])
    assert 0 < one["mixed"]["compiling"] < one["mixed"]["total"]
    # Other draws of weights, batches and dropout, but the same recipe.
    assert one["median_difference_of_train_loss"] < 0.5
    assert "times as fast" in capsys.readouterr().out


def test_every_collective_is_counted_once_with_its_bytes():
    text = """
  %gathered = u32[64,25]{1,0} all-gather(%a), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}
  %sums = (s32[], f32[2,3]{1,0}) all-reduce(%b, %c), channel_id=2
  ROOT %begun = bf16[8]{0} collective-permute-start(%d), source_target_pairs={{0,1}}
  %over = bf16[8]{0} collective-permute-done(%begun)
  %fused = f32[9]{0} fusion(%all-gather.1), kind=kLoop
"""
    assert list(scaling.collectives(text)) == [
        ("all-gather", "u32[64,25]", 6400),
        ("all-reduce", "(s32[], f32[2,3])", 28),
        ("collective-permute", "bf16[8]", 16),
    ]


@pytest.mark.slow
def test_what_eight_devices_move_is_those_who_breed(tmp_path):
    sizes = ["--sizes", "40", "32", "10", "--images", "8", "--populations", "128", "--per-device", "4"]
    arguments = ["-m", "jevo.benchmark", "scaling", *sizes, "--budget-s", "0", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *arguments], env=os.environ | devices(8), capture_output=True, check=True)
    found = json.loads((tmp_path / "scaling.json").read_text())
    (counted,) = found["counted"]
    assert counted["devices"] == 8
    assert counted["population_bytes"] == 128 * (40 * 32 + 32 * 10) / 8
    # A fifth of the genomes, and a few numbers of each member.
    assert 0.2 < counted["bytes"] / counted["population_bytes"] < 0.3
    assert [each["devices"] for each in found["timed"]] == [1, 2, 4, 8]
    assert [each["chips"] for each in found["paper"]] == [8, 64, 256]
