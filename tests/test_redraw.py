"""Figures drawn again from what a run's folder holds: the same ones, or a line that says why not."""

import json
import shutil
from pathlib import Path

import jax
import pytest

from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, experiment, masks
from jevo.experiments.hyperparams.genomes import TABLE, brief, read_table
from jevo.plots import style
from jevo.redraw import main, redraw
from jevo.runs import Saved, competitors, read_result
from jevo.runs.arguments import from_settings
from jevo.runs.report import table

RECORDED = Path(__file__).parent.parent / "experiments" / "benchmark"
KEPT = ("result.json", "config.yaml", "*.jsonl", "*.csv")
"""What of a run is enough for it."""


def kept(folder, to):
    """A record of a run: the little that is enough to draw from."""
    to.mkdir()
    for pattern in KEPT:
        for path in folder.glob(pattern):
            shutil.copy(path, to)
    return to


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_drawn_again_is_what_the_run_drew(name, smoke, tmp_path, capsys):
    finished = smoke(name)
    copy = kept(finished, tmp_path / "run")
    capsys.readouterr()
    main([str(copy)])
    drawn = sorted(copy.glob("*.png"))
    assert copy / "curves.png" in drawn
    for path in drawn:
        assert path.read_bytes() == (finished / path.name).read_bytes()
    assert capsys.readouterr().out.splitlines() == [f"{path}: drawn" for path in redrawn(copy)]
    # The others need the data: each of them is the report's own.
    others = {path.name for path in finished.glob("*.png")} - {path.name for path in drawn}
    assert not others & {"curves.png", "front.png", "genes.png", "family.png", "network.png"}


def redrawn(folder):
    result = read_result(folder)
    return [folder / name for name in experiment(result["experiment"]).redrawn(folder, result)]


@pytest.mark.slow
def test_the_front_is_drawn_again(tmp_path):
    out = tmp_path / "run"
    settings = {"objectives": ("fitness", "kept"), "elites": 0.5, "reference": True}
    with jax.debug_key_reuse(False):
        masks.run(masks.Config.from_preset("smoke", out=out, **settings))
    copy = kept(out, tmp_path / "copy")
    assert [path.name for path in redraw(copy)] == ["curves.png", "front.png"]
    assert (copy / "front.png").read_bytes() == (out / "front.png").read_bytes()


@pytest.mark.parametrize("name", ["masks", "sgd", "mating", "small"])
def test_a_recorded_benchmark_is_drawn_again(name, tmp_path):
    shutil.copy(RECORDED / f"{name}.json", tmp_path)
    main([str(tmp_path / f"{name}.json")])
    assert (tmp_path / f"{name}.png").stat().st_size > 5000
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.json", f"{name}.png"}


def test_what_is_missing_is_said(smoke, tmp_path, capsys):
    copy = kept(smoke("masks"), tmp_path / "run")
    capsys.readouterr()
    (copy / "metrics.jsonl").unlink()
    with pytest.raises(SystemExit) as stopped:
        main([str(copy)])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "curves.png: not drawn" in said.out
    assert "metrics.jsonl is not there" in said.out
    assert "nothing to draw figures from" in said.err
    refused = {
        "no finished run": [str(tmp_path)],
        "folders of finished runs": [],
        "cannot be read": [str(tmp_path / "none.json")],
        "not jevo's": [str(RECORDED / "precision.json")],
    }
    for word, arguments in refused.items():
        with pytest.raises(SystemExit):
            main(arguments)
        error = capsys.readouterr().err
        assert word in error
        assert len(error.splitlines()) == 1


def test_a_lost_line_is_a_gap_and_shifts_nothing(smoke, tmp_path):
    copy = kept(smoke("hybrid"), tmp_path / "run")
    whole = saved(copy)
    before = [each.by_generation("loss") for each in competitors(whole)]
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text("".join([*lines[:1], *lines[2:]]))
    own, *others = (each.by_generation("loss") for each in competitors(whole))
    assert own.y == [*before[0].y[:1], None, *before[0].y[2:]]
    assert list(own.x) == list(before[0].x)
    assert others == before[1:]
    assert redraw(copy) == [copy / "curves.png"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_who_competes_has_one_name_in_tables_and_figures(name, smoke):
    run = saved(smoke(name))
    found = competitors(run)
    rows = [line.split(" | ")[0].strip("| ") for line in table([run.result]).splitlines()[2:]]
    assert [each.title for each in found] == rows
    assert [each.style for each in found] == [style(place) for place in range(len(rows))]
    assert all(len(each.lines) > 0 for each in found)
    assert not any("_" in each.title for each in found)


def saved(folder):
    result = read_result(folder)
    return Saved(folder, from_settings(experiment(result["experiment"]).config, result["config"], "result"), result)


def test_the_table_of_genomes_is_read_as_it_was_written(smoke, tmp_path):
    folder = smoke("hyperparams")
    found = read_table(folder / TABLE)
    result = read_result(folder)
    assert list(found) == ["genetic", "random_search"]
    champion = found["genetic"][result["champion"]["number"]]
    assert champion.genome == result["champion"]["genome"]
    assert champion.score == pytest.approx(result["champion"]["score"], abs=1e-5)
    assert "adam" in brief({"dense": [{"units": 3}, {"units": 4}], "optimizer": "adam", "lr": 1 / 3, "conv": []})
    assert brief({"dense": [{"units": 3}, {"units": 4}], "conv": [], "lr": 1 / 3}) == "dense 3-4, no conv, lr 0.333"
    text = (folder / TABLE).read_text()
    cut = text[: text.rindex("random_search") + 20]
    for damaged in ("", "search,number\na,b\n", json.dumps(result), text.replace(",0,", ",zero,"), cut):
        (tmp_path / TABLE).write_text(damaged)
        with pytest.raises(InputError, match="no table of genomes"):
            read_table(tmp_path / TABLE)
