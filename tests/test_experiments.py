"""What every experiment gives its user, held for all that are in the registry: a new one is certified by its row."""

import json
import re
import shlex
import shutil
import time
from dataclasses import fields

import jax
import numpy as np
import pytest
import yaml

from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, champion, experiment
from jevo.runs.arguments import from_command_line, from_settings, resolved
from jevo.runs.contest import Phases
from jevo.runs.lines import read_lines
from jevo.runs.own import Given
from jevo.runs.signals import Interrupted
from tests.commands import command, deterministic, result, start


@pytest.fixture(scope="module", autouse=True)
def vmapped_keys():
    """JAX's check for keys used twice takes any vmapped map over keys for one; each experiment's own tests check it."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module", params=EXPERIMENTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def finished(name, smoke):
    return smoke(name)


def test_a_run_leaves_what_it_promises(name, finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "result.json", "report.md", "champion", "checkpoints"}
    # All of it is known to be the run's, and so can be deleted by starting over.
    assert names <= {*json.loads((finished / "run.json").read_text())["files"], "run.json", ".lock"}
    assert not (finished / "checkpoints" / "scratch").exists()
    read = result(finished)
    assert read["experiment"] == name
    assert read.keys() >= {
        "preset", "config", "seed", "data", "device", "precision", "versions", "champion", "references",
    } or name == "signs"  # fmt: skip
    entries = {"own": read, "control": read["control"], **read["references"]}
    for entry in entries.values():
        more = entry["budget"].keys() & {"example_passes", "epochs"}
        assert entry["budget"].keys() == {"evaluations", "gradient_steps", "wall_s", "compile_s"} | more
        assert more == read["budget"].keys() & {"example_passes", "epochs"}
        assert entry["metrics"].keys() == {"train", "validation", "test"}
        assert entry["metrics"]["test"].keys() == read["metrics"]["test"].keys()
        assert all(np.isfinite(value) for split in entry["metrics"].values() for value in split.values())
    spent = [(entry["budget"]["evaluations"], entry["budget"]["gradient_steps"]) for entry in entries.values()]
    if "epochs" in read["budget"]:
        # Whoever is stopped early leaves a part of a training over, which the control has one more of.
        own, other = (entry["budget"]["epochs"] for entry in (read, read["control"]))
        assert 0 <= other - own < read["config"]["epochs"]
    else:
        assert spent[0][0] == spent[1][0] or spent[0][1] == spent[1][1] > 0, "the control has another budget"
    assert read["budget"].get("example_passes") == read["control"]["budget"].get("example_passes")
    lines = read_lines(finished / "metrics.jsonl")
    assert len(lines) > 1
    generations = [line["generation"] for line in lines]
    assert generations == list(range(generations[0], generations[0] + len(lines)))
    assert all(line["best"] >= line["mean"] for line in lines)


def test_a_report_shows_every_figure_and_the_control(finished):
    text, read = (finished / "report.md").read_text(), result(finished)
    assert f"{read['control']['name']} (control)" in text
    assert f"python -m {EXPERIMENTS[read['experiment']]} --preset smoke" in text
    assert "could not be drawn" not in text
    pictures = {path.name for path in finished.glob("*.png")}
    assert pictures == set(re.findall(r"\((\w+\.png)\)", text))
    for picture in pictures:
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_says_so(name, finished, tmp_path, capsys):
    found, copy = experiment(name), shutil.copytree(finished, tmp_path / "run")
    before = (copy / "result.json").stat().st_mtime_ns
    assert found.run(found.config.from_preset("smoke", out=copy)) == result(finished)
    assert "is done" in capsys.readouterr().out
    assert (copy / "result.json").stat().st_mtime_ns == before


def test_the_champion_answers_as_it_was_judged(name, finished):
    answer, read = champion(finished)
    found = experiment(name)
    test = found.dataset(from_settings(found.config, read["config"], "result")).test
    answers = answer(test.x)
    wrong = np.mean(answers.classes != test.y)
    # Of several seeds, one is saved.
    judged = [seed["metrics"]["test"] for seed in read.get("repeats", [read])]
    assert wrong in [pytest.approx(one["svm_error"] if "svm_error" in one else 1 - one["accuracy"]) for one in judged]
    if answers.reconstructions is not None:
        error = np.sqrt(np.mean(((answers.reconstructions - test.x) / read["data"]["values"]["white"]) ** 2))
        assert error == pytest.approx(read["metrics"]["test"]["rmse"], rel=1e-4)


def test_a_figure_that_fails_is_a_note_and_no_lost_run(name, finished, tmp_path, monkeypatch, capsys):
    """And a run that was cut short before its report was written writes it, to the same result."""
    found, copy = experiment(name), tmp_path / "run"
    shutil.copytree(finished, copy)
    (copy / "report.md").unlink()
    before = deterministic(copy)

    def fails(path):
        raise RuntimeError("no fonts")

    def report(*arguments):
        real = found.report(*arguments)
        return real._replace(figures={**real.figures, "broken.png": fails})

    found._replace(report=report).run(found.config.from_preset("smoke", out=copy))
    text = (copy / "report.md").read_text()
    assert "broken.png could not be drawn: RuntimeError: no fonts" in text
    assert "broken.png could not be drawn" in capsys.readouterr().out
    assert deterministic(copy)[0]["metrics"] == before[0]["metrics"]
    assert deterministic(copy)[1] == before[1]


def test_a_run_that_is_stopped_goes_on_to_the_same_end(name, finished, tmp_path, monkeypatch):
    """Between two contestants: what the first one has found is not computed again."""
    found, folder = experiment(name), tmp_path / "run"
    config = found.config.from_preset("smoke", out=folder)

    def contest(*arguments):
        whole = found.contest(*arguments)
        first = next(iter(whole.contestants))
        return whole._replace(contestants={first: whole.contestants[first], "stop": Stops()})

    class Stops:
        def compete(self, run, earlier):
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        found._replace(contest=contest).run(config)
    assert not (folder / "result.json").exists()
    found.run(config)
    assert deterministic(folder) == deterministic(finished)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_uninterrupted_one(name, finished, tmp_path):
    """Real processes, killed at moments that no checkpoint foresees."""
    folder, kills = tmp_path / "run", 0
    for attempt in range(20):
        process = start(command(name, out=folder))
        files = lambda: sum(path.stat().st_size for path in folder.glob("*.jsonl"))  # noqa: E731
        before = files()
        while process.poll() is None and files() <= before:
            time.sleep(0.002)
        if process.poll() is None and attempt < 4:
            process.kill()
            kills += 1
        _, errors = process.communicate(timeout=240)
        assert "Traceback" not in errors
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 1
    assert deterministic(folder) == deterministic(finished)


def helped(kind, capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        from_command_line(kind, arguments)
    assert stopped.value.code == 0
    return capsys.readouterr().out


def settings_in(text):
    return set(re.findall(r"^  --(?:\[no-\])?([a-z-]+)", text, re.MULTILINE))


def test_help_is_short_and_shows_what_has_an_effect(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    kind = experiment(name).config
    for preset in kind.presets:
        text = helped(kind, capsys, "--preset", preset, "--help")
        assert len(text.splitlines()) < 60
        assert max(map(len, text.splitlines()[1:-8])) <= 80
        config = kind.from_preset(preset)
        shown = {setting.replace("-", "_") for setting in settings_in(text)}
        assert shown == (kind.common & resolved(config).keys()) - kind.idle - config.unread.keys()
        for word in kind.presets:
            assert f"\n  {word} " in text


def test_help_all_explains_every_setting(name, capsys):
    kind = experiment(name).config
    text = helped(kind, capsys, "--help-all")
    assert settings_in(text) == {s.replace("_", "-") for s in resolved(kind())} - {"preset"} - {
        s.replace("_", "-") for s in kind.idle
    }
    assert kind.recipes.keys() == kind.presets.keys()
    assert "  \n" not in text


def test_examples_of_the_help_are_settings(name):
    kind = experiment(name).config
    for example in kind.examples:
        from_command_line(kind, shlex.split(example))


def test_every_preset_is_one_and_comes_back_from_its_file(name):
    kind = experiment(name).config
    assert {"default", "smoke"} <= kind.presets.keys()
    for preset in kind.presets:
        config = kind.from_preset(preset)
        assert from_settings(kind, yaml.safe_load(yaml.safe_dump(resolved(config))), "file") == config
        assert from_settings(kind, json.loads(json.dumps(resolved(config))), "file") == config


def test_what_a_config_says_of_its_fields_is_true(name):
    kind = experiment(name).config
    names = {field.name for field in fields(kind)}
    assert kind.free <= names
    assert not kind.renamed.keys() & names
    for old in kind.renamed:
        message = f"setting {old} is called {kind.renamed[old]} now"
        for refused in (
            lambda old=old: from_command_line(kind, [f"--{old.replace('_', '-')}", "1"]),
            lambda old=old: from_settings(kind, {old: 1}, "old.yaml"),
        ):
            with pytest.raises(InputError) as caught:
                refused()
            assert str(caught.value).endswith(message)


def test_stages_start_with_no_more_members_at_once_than_there_are(name):
    found = experiment(name)
    config = found.config.from_preset("smoke", chunk=10**6)
    dataset = found.dataset(config)
    contest = found.contest(config, dataset, Given.usual(dataset))
    with contest.resources:
        for contestant in contest.contestants.values():
            for phase in contestant.phases if isinstance(contestant, Phases) else ():
                assert phase.stage.chunk <= 10 * config.population


def test_an_unknown_experiment_is_named(smoke, tmp_path):
    with pytest.raises(InputError, match="experiment 'mask' is unknown; did you mean masks"):
        experiment("mask")
    lost = {**result(smoke("masks")), "experiment": "gone"}
    (tmp_path / "result.json").write_text(json.dumps(lost))
    with pytest.raises(InputError, match="experiment 'gone' is unknown"):
        champion(tmp_path)
