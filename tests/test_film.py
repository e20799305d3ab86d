"""The film of masks that evolve: every generation is looked at, and it stays small."""

import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parent.parent / "experiments" / "masks" / "film.py"


@pytest.mark.slow
def test_a_film_is_made_of_a_run(tmp_path, monkeypatch):
    film = runpy.run_path(str(SCRIPT))
    config = film["Config"].from_preset("smoke", generations=20)
    with jax.debug_key_reuse(False):
        shares, scores = film["watch"](config)
        again, _ = film["watch"](config)
        assert shares.shape == (21, 8, 8, 8)
        np.testing.assert_array_equal(again, shares)
        # Members agree more and more: half of them keep a weight at first.
        agreed = np.abs(shares - 0.5).mean(axis=(1, 2, 3))
        assert agreed[0] < 0.15 < agreed[-1]
        own, control = (values.max(axis=1) for values in scores.values())
        assert own.shape == control.shape == (21,)
        assert own[-1] > own[0]
        monkeypatch.setattr(sys, "argv", ["film", "--out", str(tmp_path), "--preset", "smoke", "--generations", "20"])
        film["main"]()
    with Image.open(tmp_path / "film.gif") as frames:
        assert frames.n_frames == 21
    assert (tmp_path / "film.gif").stat().st_size < 1e6
    assert (tmp_path / "population.png").stat().st_size > 10_000
