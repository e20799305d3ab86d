"""The benchmark measures what it says: here only that it does so, on sizes that tell nothing."""

import json

import jax
import pytest

from jevo.benchmark import __main__ as benchmark
from jevo.benchmark import timing

TINY = {
    "masks": ["--population", "4", "--images", "8"],
    "sgd": ["--population", "2", "--steps", "2", "--examples", "64"],
}


@pytest.mark.parametrize("what", TINY)
def test_a_benchmark_writes_what_it_prints(what, tmp_path, capsys, monkeypatch):
    out = tmp_path / "figures.json"
    sizes = ["--sizes", "6", "5", "3", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["benchmark", what, *TINY[what], *sizes])
    monkeypatch.setattr(timing, "MATMUL", 64)
    with jax.debug_key_reuse(False):  # The same call is timed again and again.
        benchmark.main()
    figures = json.loads(out.read_text())
    assert figures["settings"]["population"] == int(TINY[what][1])
    assert all(share > 0 for share in figures["share_of_plain_matmul"].values())
    assert "of the plain rate" in capsys.readouterr().out


def test_an_unknown_benchmark_is_named(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "mask"])
    with pytest.raises(SystemExit) as stopped:
        benchmark.main()
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: benchmark 'mask' is unknown; did you mean masks? known: masks, sgd, hyperparams, parity\n"
    )


@pytest.mark.slow
def test_mixed_training_is_measured_against_networks_that_learn_alike(tmp_path, capsys, monkeypatch):
    out = tmp_path / "figures.json"
    sizes = ["--data", "digits", "--population", "2", "--generations", "1", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark", "hyperparams", *sizes, "--out", str(out)])
    benchmark.main()
    (one,) = json.loads(out.read_text())["generations"]
    assert one["faster"] == pytest.approx(one["alone"]["total"] / one["mixed"]["total"])
    assert 0 < one["mixed"]["compiling"] < one["mixed"]["total"]
    # Other draws of weights, batches and dropout, but the same recipe.
    assert one["median_difference_of_train_loss"] < 0.5
    assert "times as fast" in capsys.readouterr().out
