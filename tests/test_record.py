"""The folder of a run: what it is known by, what is never deleted, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from jevo.errors import InputError
from jevo.experiments import champion, experiment, hyperparams, masks
from jevo.runs.folder import MARKER, read_marker
from jevo.runs.record import open_run, read_result
from jevo.summary import summarize
from tests.commands import deterministic

SMOKE = masks.Config.presets["smoke"]


def config(folder, **settings):
    return masks.Config.from_preset("smoke", out=folder, **settings)


@pytest.fixture
def copied(smoke, tmp_path):
    """A finished run of masks, to be changed."""
    shutil.copytree(smoke("masks"), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def table(tmp_path):
    """`seed -> path`: the path of a data set, whose numbers are drawn with that seed."""

    def write(seed):
        draw = np.random.default_rng(seed)
        x, y = draw.integers(0, 255, (60, 4, 4, 1)).astype(np.uint8), np.arange(60) % 2
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y)
        return tmp_path / "own.npz"

    return write


@pytest.mark.parametrize("name", ["[x]*?-{1,2} '\"%d$ünï\n[!a]", pytest.param("a*", marks=pytest.mark.slow)])
def test_a_run_lives_in_a_folder_of_any_name(name, smoke, tmp_path):
    """[...] in a path is a pattern to some libraries: nothing saved there could be read."""
    masks.run(config(tmp_path / name / "run"))
    assert deterministic(tmp_path / name / "run") == deterministic(smoke("masks"))
    (tmp_path / name / "run" / "result.json").unlink()
    masks.run(config(tmp_path / name / "run"))  # From its checkpoints.
    assert deterministic(tmp_path / name / "run") == deterministic(smoke("masks"))
    answer, _ = champion(tmp_path / name / "run")
    assert answer(np.zeros((2, 8, 8, 1), np.uint8)).classes.shape == (2,)


def test_the_default_folder_has_a_clean_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data, name in (("mnist[:2000]", "mnist-2000"), ("a b/[x]$*.npz", "x"), ("digits", "digits")):
        with open_run("masks", masks.Config(data=data)) as run:
            assert str(run.folder) == f"runs/masks-{name}-default-seed0"


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("mine", ["config.yaml", "plot.png", "metrics.jsonl", "result.json", "checkpoints/3/x"])
def test_a_folder_that_is_no_run_of_jevo_is_left_as_it_is(mine, fresh, tmp_path):
    path = tmp_path / "mine" / mine
    path.parent.mkdir(parents=True)
    path.write_text("population: 20\n")
    with pytest.raises(InputError, match="holds files that are not a run's"):
        masks.run(config(tmp_path / "mine", fresh=fresh))
    assert path.read_text() == "population: 20\n"
    assert {found.name for found in (tmp_path / "mine").iterdir()} == {mine.partition("/")[0]}


def test_starting_over_deletes_what_the_run_has_written_and_no_more(copied):
    before = {path.name for path in copied.iterdir()}
    for name in ("mine.png", "mine.jsonl", "notes.md"):
        (copied / name).write_text("mine")
    old = deterministic(copied)
    result_file = (copied / "result.json").stat().st_ino
    masks.run(config(copied, fresh=True, seed=0))
    assert deterministic(copied) == old
    assert (copied / "result.json").stat().st_ino != result_file, "it did not start over"
    for name in ("mine.png", "mine.jsonl", "notes.md"):
        assert (copied / name).read_text() == "mine"
    masks.run(config(copied, fresh=True, data="digits", generations=2))
    assert {path.name for path in copied.iterdir()} == before | {"mine.png", "mine.jsonl", "notes.md"}


def test_nothing_is_deleted_before_all_is_checked(copied, tmp_path):
    whole = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    (tmp_path / "bad.csv").write_text("a,b\n1\n")
    for settings in ({"data": str(tmp_path / "none.npz")}, {"data": str(tmp_path / "bad.csv")}, {"data": "digit"}):
        with pytest.raises(InputError):
            masks.run(config(copied, fresh=True, **settings))
    with pytest.raises(InputError):
        hyperparams.run(hyperparams.Config.from_preset("smoke", out=copied, fresh=True, space="nosuch.yaml"))
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == whole


@pytest.mark.slow
@pytest.mark.parametrize("left", [[], [MARKER], ["config.yaml", MARKER], [f".{MARKER}.partial"]])
def test_a_folder_that_a_kill_left_half_made_is_used(left, copied, smoke):
    for path in copied.iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if left == [f".{MARKER}.partial"]:
        (copied / left[0]).write_text('{"jev')
    (copied / ".config.yaml.partial").write_text("popu") if MARKER in left else None
    masks.run(config(copied))
    assert deterministic(copied) == deterministic(smoke("masks"))


@pytest.mark.slow
def test_a_kill_on_the_way_of_starting_over_leaves_no_run_that_looks_whole(copied, smoke, monkeypatch):
    """Whatever the call that it comes at: the same command goes on, and ends as ever."""
    from jevo.runs import folder

    class Killed(BaseException):
        pass

    expected = deterministic(smoke("masks"))
    for survived in range(12):
        calls = iter(range(1000))

        def deadly(function, calls=calls, survived=survived):
            def called(*arguments, **settings):
                if next(calls) >= survived:
                    raise Killed
                return function(*arguments, **settings)

            return called

        with monkeypatch.context() as patched:
            patched.setattr(folder.shutil, "rmtree", deadly(shutil.rmtree))
            for name in ("unlink", "rename"):
                patched.setattr(f"pathlib.Path.{name}", deadly(getattr(folder.Path, name)))
            try:
                contents = read_marker(copied)["contents"]
                with open_run("masks", config(copied, fresh=True), contents) as opened, opened.begun():
                    pass
            except Killed:
                pass
        masks.run(config(copied))
        assert deterministic(copied) == expected


def test_a_finished_run_answers_for_itself_alone(copied):
    """Even if its checkpoints were deleted."""
    shutil.rmtree(copied / "checkpoints")
    for settings in ({"seed": 1}, {"population": 13}):
        with pytest.raises(InputError, match="other settings"):
            masks.run(config(copied, **settings))
    assert masks.run(config(copied, devices=1, checkpoint_every=7, compile_cache=False)) == read_result(copied)


@pytest.mark.slow
def test_other_data_at_the_same_path_are_another_run(table, tmp_path):
    masks.run(config(tmp_path / "run", data=str(table(0))))
    masks.run(config(tmp_path / "run", data=str(table(0))))
    table(1)
    with pytest.raises(InputError, match="other settings \\(data: its contents have changed\\); give another out"):
        masks.run(config(tmp_path / "run", data=str(tmp_path / "own.npz")))
    old = read_result(tmp_path / "run")
    new = masks.run(config(tmp_path / "run", data=str(tmp_path / "own.npz"), fresh=True))
    with pytest.raises(InputError, match="what is in the data; summarise them apart"):
        summarize([old, {**new, "seed": 1}])


@pytest.mark.slow
def test_another_space_at_the_same_path_is_another_run(tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("dense: {layers: 1, units: [4, 8]}\noptimizer: adam\n")
    small = {"out": tmp_path / "run", "space": str(space), "population": 2, "elites": 1, "generations": 0}
    hyperparams.run(hyperparams.Config.from_preset("smoke", **small))
    space.write_text("# The same.\noptimizer: adam\ndense: {layers: 1, units: [4, 8]}\n".replace("# The same.\n", ""))
    space.write_text("dense: {layers: 1, units: [4, 16]}\noptimizer: adam\n")
    with pytest.raises(InputError, match="space: its contents have changed"):
        hyperparams.run(hyperparams.Config.from_preset("smoke", **small))


def test_a_run_of_a_later_jevo_is_left_alone(copied):
    marker = json.loads((copied / MARKER).read_text())
    (copied / MARKER).write_text(json.dumps({**marker, "format": 99, "jevo": "9.9"}))
    with pytest.raises(InputError, match=r"a later jevo \(9.9\)"):
        masks.run(config(copied, fresh=True))


@pytest.mark.parametrize(
    "lie",
    [
        {"files": ["../other"]}, {"files": ["/etc/passwd"]}, {"files": [".."]}, {"files": "run.json"}, {"files": [3]},
        {"contents": []}, {"settings": 7}, {"format": "1"}, {"experiment": None}, [], None, "text",
    ],
)  # fmt: skip
def test_a_marker_that_lies_is_refused(lie, copied):
    (copied.parent / "other").write_text("mine")
    marker = json.loads((copied / MARKER).read_text())
    (copied / MARKER).write_text(json.dumps({**marker, **lie} if isinstance(lie, dict) else lie))
    with pytest.raises(InputError, match=r"run\.json"):
        masks.run(config(copied, fresh=True))
    assert (copied.parent / "other").exists()


def broken(result):
    """A result with each of its parts, down to the second level, missing or of another type."""
    for name, value in result.items():
        yield f"no {name}", {key: of for key, of in result.items() if key != name}
        for other in (None, 7, "x", [], {}, [1, 2], {"a": 1}):
            if not isinstance(other, type(value)):
                yield f"{name} {other}", {**result, name: other}
        for part in value if isinstance(value, dict) else ():
            for other in (None, "x", [None]):
                yield f"{name}.{part} {other}", {**result, name: {**value, part: other}}


@pytest.fixture
def vmapped_keys():
    """JAX's check for keys used twice takes any vmapped map over keys for one; each experiment's own tests check it."""
    with jax.debug_key_reuse(False):
        yield


def refused_or(function):
    """What a function returns, or None if it refuses in one line."""
    try:
        return function()
    except InputError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    return None


@pytest.mark.parametrize("name", ["masks", pytest.param("hyperparams", marks=pytest.mark.slow)])
def test_a_result_that_lies_ends_in_a_line_or_changes_nothing(name, smoke, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(smoke(name), folder)
    x = np.zeros((1, 8, 8, 1), np.uint8)
    true = champion(folder)[0](x).classes
    for what, lie in broken(read_result(folder)):
        if what.startswith(("config.", "data.")):
            (folder / "result.json").write_text(json.dumps(lie))
            found = refused_or(lambda: champion(folder)[0](x).classes)
            assert found is None or (found == true).all(), what
        elif not what.startswith(("versions", "device", "champion")):
            (folder / "result.json").write_text(json.dumps(lie))
            refused_or(lambda: summarize([read_result(folder)]))


@pytest.mark.slow
def test_a_hole_in_the_metrics_is_said_and_nothing_takes_its_place(smoke, tmp_path, vmapped_keys):
    folder, found = tmp_path / "run", experiment("hybrid")
    shutil.copytree(smoke("hybrid"), folder)
    true = read_result(folder)["barrier"]
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    gone = read_result(folder)["config"]["legs"]  # The first mating's.
    (folder / "metrics.jsonl").write_text("".join([*lines[:gone], "?" + lines[gone][1:], *lines[gone + 1 :]]))
    (folder / "result.json").unlink()
    result = found.run(found.config.from_preset("smoke", out=folder))
    assert set(result["barrier"][0]) == {None}
    assert result["barrier"][1:] == true[1:]
    assert f"metrics.jsonl lacks generations {gone + 1} (it was" in (folder / "report.md").read_text()


def test_summary_takes_what_changes_nothing_and_no_seed_twice(smoke):
    one = read_result(smoke("masks"))
    other = {**one, "seed": 1, "config": {**one["config"], "devices": 8, "checkpoint_every": 9, "compile_cache": False}}
    assert "seeds 0, 1." in summarize([one, other])
    with pytest.raises(InputError, match="seed 0 is there more than once"):
        summarize([one, one])
    with pytest.raises(InputError, match="of different experiments"):
        summarize([one, {**read_result(smoke("hybrid")), "seed": 1}])
    with pytest.raises(InputError, match="population"):
        summarize([one, {**other, "config": {**other["config"], "population": 3}}])
    with pytest.raises(InputError, match="experiment 'nosuch' is unknown"):
        summarize([{**one, "experiment": "nosuch"}])


def test_processes_that_read_other_data_are_refused(tmp_path, monkeypatch):
    """The first process has said what it reads, and this one reads something else."""
    from jevo.runs import folder

    monkeypatch.setattr(folder, "broadcast", lambda line: f"not {line}")
    with pytest.raises(InputError, match="do not read the same data"), open_run("masks", config(tmp_path / "run")):
        pass
    assert not (tmp_path / "run").exists()


def test_no_byte_of_a_result_changes_in_silence(copied):
    path = copied / "result.json"
    raw, whole = path.read_bytes(), read_result(copied)
    assert "result" not in whole  # Its digest lies beside it, so that results can be compared.
    for place in range(0, len(raw), max(1, len(raw) // 60)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(InputError, match=r"result\.json"):
            read_result(copied)
    path.write_bytes(raw)
    (copied / MARKER).write_text("nonsense")
    assert read_result(copied) == whole
    (copied / MARKER).unlink()  # As the runs on record are kept.
    assert read_result(copied) == whole


def test_what_is_compared_has_the_same_metrics(copied):
    whole = read_result(copied)
    (copied / MARKER).unlink()
    metrics = {split: {"rmse": 1.0} for split in ("train", "validation", "test")}
    for lie in (
        {"control": {**whole["control"], "metrics": metrics}},
        {"repeats": [{"seed": 0, "metrics": metrics, "control": {"metrics": metrics}, "references": {}}]},
        {"contents": 7},
    ):
        (copied / "result.json").write_text(json.dumps({**whole, **lie}))
        with pytest.raises(InputError, match=r"result\.json is damaged"):
            read_result(copied)
    with pytest.raises(InputError, match="seed: metrics"):
        summarize([whole, {**whole, "seed": 1, "metrics": metrics}])


def test_a_run_whose_metrics_are_gone_says_so(copied):
    for name in ("metrics.jsonl", "result.json"):
        (copied / name).unlink()
    masks.run(config(copied))
    assert "metrics.jsonl lacks generations 1, 2, 3, 4, 5, 6 " in (copied / "report.md").read_text()
