"""The run contract, in process: settings, stages, resuming, reports."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from jevo.data.datasets import SPLITS
from jevo.data.files import atomic_write
from jevo.errors import InputError
from jevo.experiments import champion, masks
from jevo.runs import report
from jevo.runs.arguments import from_command_line, from_settings, resolved
from jevo.runs.checkpoint import Checkpoints, load_arrays, save_arrays
from jevo.runs.contest import Judged, Outcome, comparison
from jevo.runs.lines import Lines, read_lines
from jevo.runs.loop import BLOCK, Programs, Stage, run_stage
from jevo.runs.record import open_run, read_result
from jevo.runs.signals import Interrupted
from tests.commands import deterministic, result

SMALL = {
    "search": "genetic",
    "hidden": (8,),
    "population": 12,
    "breeders": 4,
    "generations": 6,
    "validate_every": 3,
    "checkpoint_every": 2,
}


def refused(*arguments):
    with pytest.raises(InputError) as caught:
        from_command_line(masks.Config, arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--populaton", "3"], ["--populaton", "did you mean --population"]),
        (["--population", "many"], ["--population", "many", "INT"]),
        (["--mask", "maks"], ["--mask", "maks", "mask_rs"]),
        (["--population", "0"], ["population is 0", "takes at least 1"]),
        (["--mutation-rate", "0.5"], ["mutation_rate is 0.5", "only with another search", "--preset genetic"]),
        (["--preset", "genetic", "--learning-rate", "0.5"], ["learning_rate is 0.5", "this one is genetic"]),
        (
            ["--preset", "genetic", "--mutation-rate", "1.5"],
            ["mutation_rate is 1.5", "takes a probability between 0 and 1"],
        ),
        (["--preset", "genetic", "--elites", "100"], ["elites + lucky is 100", "fewer than the population"]),
        (["--preset", "genetic", "--breeders", "101"], ["breeders is 101", "a number from 1 to the population of 100"]),
        (["--preset", "genetic", "--breeders", "1.5"], ["breeders is 1.5", "or a share (as 0.25) up to 1.0"]),
        (["--breeders", "1.5"], ["breeders is 1.5", "effect only with another search"]),
        (["--preset", "genetic", "--parents", "17"], ["parents is 17", "4, 8, 16"]),
        (["--mates", "2"], ["setting mates is called parents now"]),
        (["--preset", "faithfull"], ["faithfull", "did you mean faithful", "known: default, genetic"]),
        (["--config", "/no/such.yaml"], ["/no/such.yaml", "no such file"]),
        (["--seed", "-1"], ["seed is -1", "a whole number from 0 to 4,294,967,295"]),
        (["--reference-steps", "150"], ["reference_steps is 150", "a multiple of 100"]),
        (["--hidden", "10", "0"], ["hidden", "widths >= 1"]),
    ],
)
def test_bad_settings_get_one_plain_line(arguments, parts):
    message = refused(*arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("populaton: 3", ["unknown setting 'populaton'", "did you mean population"]),
        ("population: many", ["population", "'many'", "a whole number"]),
        ("preset: genetic\nmutation_rate: 2", ["mutation_rate is 2.0"]),
        ("rate: 0.1", ["setting rate is called mutation_rate now"]),
        ("- 1\n- 2", ["'setting: value' lines, not list"]),
        ("a: [", ["is not YAML"]),
        ("a: !!python/object/apply:os.system ['true']", ["has the tag", "python"]),
    ],
)
def test_bad_config_files_get_one_plain_line(text, parts, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    message = refused("--config", str(path))
    assert str(path) in message
    for part in parts:
        assert part in message


def test_sources_override_each_other_in_order(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("preset: faithful\npopulation: 50\nhidden: [7, 8]\nreference: true\nseed: 3\n")
    config = from_command_line(masks.Config, ["--config", str(path), "--seed", "4", "--no-reference"])
    assert (config.fitness, config.breeders) == ("accuracy", 17)  # The preset's.
    assert (config.population, config.hidden) == (50, (7, 8))  # The file's.
    assert (config.seed, config.reference) == (4, False)  # The command line's.
    assert from_settings(masks.Config, yaml.safe_load(yaml.safe_dump(resolved(config))), "x") == config


@pytest.fixture(scope="module")
def finished(smoke):
    return smoke("masks")


def test_validation_is_looked_at_when_it_is_due(finished):
    validated = [line["validation"] is not None for line in read_lines(finished / "metrics.jsonl")]
    assert validated == [False, True] * 3
    assert result(finished)["budget"]["evaluations"] == 20 * 7


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_folder_that_cannot_be_locked_is_used_without(number, tmp_path, monkeypatch):
    """As on a notebook's Google Drive."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with open_run("masks", masks.Config(out=tmp_path / "run", **SMALL)) as run:
        assert run.folder == tmp_path / "run"


@pytest.mark.parametrize("kind", [InputError, Interrupted])
def test_what_a_user_may_cause_is_a_line_in_a_notebook(kind):
    """IPython shows what this method returns in place of a traceback."""
    (line,) = kind("what to do")._render_traceback_()
    assert line.endswith("what to do")


def test_two_processes_do_not_share_a_folder(tmp_path):
    config = masks.Config(out=tmp_path / "run", **SMALL)
    with open_run("masks", config), pytest.raises(InputError, match="another process is running in"):
        masks.run(config)
    with open_run("masks", config):
        pass


def test_another_configuration_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    with pytest.raises(InputError, match=r"other settings \(population: 20 -> 13\); give another out, or start over"):
        masks.run(masks.Config.from_preset("smoke", out=tmp_path / "run", population=13))


def test_a_run_that_never_began_binds_nobody(tmp_path):
    with pytest.raises(InputError, match="did you mean digits"):
        masks.run(masks.Config(out=tmp_path / "run", data="digit", **SMALL))
    with open_run("masks", masks.Config(out=tmp_path / "run", **SMALL)) as run:
        assert run.result() is None


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="holds files that are not a run's"):
        masks.run(masks.Config(out=tmp_path, fresh=True, **SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_predict_reads_a_picture(finished, tmp_path, capsys):
    from PIL import Image

    from jevo.data.datasets import load
    from jevo.predict import main

    test = load("digits").test
    Image.fromarray((test.x[0, :, :, 0] * 15).astype(np.uint8)).resize((40, 40)).save(tmp_path / "digit.png")
    np.save(tmp_path / "two.npy", test.x[:2])
    main([str(finished), str(tmp_path / "digit.png"), str(tmp_path / "two.npy")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(str(tmp_path / "digit.png"))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nonsense")
    for arguments in ([str(finished), str(tmp_path / "broken.png")], [str(finished)], [str(tmp_path), "x.png"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        complaint = capsys.readouterr().err
        assert complaint.startswith("error: ")
        assert complaint.count("\n") == 1


def test_a_damaged_champion_gets_one_plain_line(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    for path in (copy / "champion").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(InputError, match="champion cannot be read"):
        champion(copy)


def counting(generations):
    """A stage whose every generation folds its number into a sum."""

    def step(carry, data):
        carry = carry * 31 + data
        value = (carry % 1000).astype(jnp.float32)
        return carry, {"best": value, "mean": value / 2, "validation": jnp.where(carry % 2 == 0, value, jnp.nan)}

    return Stage("count", made(lambda data: jnp.uint32(7), step), generations, (1, "steps"))


def made(start, step):
    return lambda chunk: Programs(start, step)


def expected(generations):
    carry = np.uint32(7)
    with np.errstate(over="ignore"):
        for _ in range(generations):
            carry = carry * np.uint32(31) + np.uint32(3)
    return carry


@pytest.mark.parametrize("every", [1, 7, 1000])
@pytest.mark.parametrize("generations", [1, BLOCK + 30])
def test_blocks_of_any_length_are_one_loop(every, generations, tmp_path):
    finished = run_stage(tmp_path, counting(generations), jnp.uint32(3), every)
    assert int(finished.carry) == expected(generations)
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["generation"] for line in lines] == list(range(1, generations + 1))
    assert lines[-1]["best"] == expected(generations) % 1000
    # Again: there is nothing left to do, and the carry is the checkpoint's.
    assert int(run_stage(tmp_path, counting(generations), jnp.uint32(3), every).carry) == expected(generations)


def test_a_stage_compiles_what_it_runs_and_no_more(tmp_path, monkeypatch):
    compiled, compile_it = [], jax.stages.Lowered.compile

    def counted(lowered, *arguments, **options):
        compiled.append(lowered)
        return compile_it(lowered, *arguments, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    # A first carry and a block; the block again, for more generations; and nothing where there is nothing to do.
    for generations, programs in ((3, 2), (5, 1), (5, 0)):
        assert int(run_stage(tmp_path, counting(generations), jnp.uint32(3), 2).carry) == expected(generations)
        assert len(compiled) == programs
        compiled.clear()


def test_a_longer_run_goes_on_and_rewrites_what_came_after_the_checkpoint(tmp_path):
    run_stage(tmp_path, counting(20), jnp.uint32(3), 10)
    whole = (tmp_path / "metrics.jsonl").read_text()
    # As if killed while writing: half a line after the checkpoint.
    (tmp_path / "metrics.jsonl").write_text(whole + '{"generation": 21, "best": 1, "mean": 1, "validation": nu')
    assert int(run_stage(tmp_path, counting(35), jnp.uint32(3), 10).carry) == expected(35)
    assert [line["generation"] for line in read_lines(tmp_path / "metrics.jsonl")] == list(range(1, 36))
    assert (tmp_path / "metrics.jsonl").read_text().startswith(whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    run_stage(tmp_path, counting(20), jnp.uint32(3), 10)
    newest = tmp_path / "checkpoints" / "count" / "20"
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert int(run_stage(tmp_path, counting(30), jnp.uint32(3), 10).carry) == expected(30)
    told = capsys.readouterr().out
    assert "checkpoint 20 is damaged" in told
    assert "goes on from generation 10" in told
    for path in (tmp_path / "checkpoints" / "count").glob("*/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"can(not)? be read.*; start over with fresh"):
        run_stage(tmp_path, counting(40), jnp.uint32(3), 10)


def test_the_last_checkpoints_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for generation in range(5):
        checkpoints.save(generation, {"w": jnp.full(3, generation)})
    assert checkpoints.generations() == [3, 4]
    generation, restored, damaged = checkpoints.restore({"w": jnp.zeros(3, jnp.int32)})
    assert (generation, damaged) == (4, [])
    np.testing.assert_array_equal(restored["w"], [4, 4, 4])


@pytest.mark.parametrize("good", [0, 3])
def test_when_every_member_fails_the_run_ends_in_one_line(good, tmp_path):
    def step(carry, data):
        return carry + 1, {"best": jnp.where(carry < good, 1.0, -jnp.inf), "mean": jnp.nan, "validation": jnp.nan}

    failing = Stage("count", made(lambda data: jnp.uint32(0), step), 10, (1, "steps"), advice="try a smaller rate")
    with pytest.raises(InputError, match=f"at generation {good + 1}; try a smaller rate; ") as caught:
        run_stage(tmp_path, failing, jnp.uint32(3), 1)
    folder = tmp_path / "checkpoints" / "count"
    assert str(caught.value).endswith(f"kept in {folder}")
    # Even if no generation was good: then it is the start.
    done, saved, _ = Checkpoints(folder).restore({"carry": jnp.uint32(0), "wall_s": jnp.float32(0)})
    assert (done, int(saved["carry"])) == (good, good)


def test_a_metric_with_an_entry_a_seed_is_a_list(tmp_path):
    def step(carry, data):
        losses = jnp.array([0.5, jnp.nan, jnp.inf]) * carry
        return carry + 1, {"best": carry, "mean": carry, "validation": jnp.nan, "loss": losses}

    run_stage(tmp_path, Stage("seeds", made(lambda data: jnp.float32(1), step), 3, (1, "steps")), jnp.float32(0), 2)
    # Standard JSON: no NaN, no Infinity.
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [line["loss"] for line in lines] == [[0.5, None, None], [1.0, None, None], [1.5, None, None]]


def test_arrays_are_saved_and_checked(tmp_path):
    tree = {"a": jnp.arange(3), "b": {"c": jnp.float32(2)}}
    save_arrays(tmp_path / "x", tree)
    save_arrays(tmp_path / "x", tree)  # Replacing is fine.
    jax.tree.map(np.testing.assert_array_equal, load_arrays(tmp_path / "x", tree), tree)
    with pytest.raises(InputError, match="cannot be read"):
        load_arrays(tmp_path / "y", tree)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize(
    "bad", [b'{"n": 3, "x', b"nonsense\n", b"\xff\0\n", b"[1]\n7\n", b'{"n": ' + b"9" * 5000 + b"}\n"]
)
def test_a_bad_line_costs_itself_alone(bad, durable, tmp_path):
    path = tmp_path / "x.jsonl"
    with Lines(path, durable=durable) as lines:
        lines.append([{"n": 1}, {"n": 2}, {"n": 4, "text": "é", "x": 0.1}])
    first, second, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + bad + b"\n" * (not bad.endswith(b"\n")) + second + last)
    whole = [{"n": 1}, {"n": 2}, {"n": 4, "text": "é", "x": 0.1}]
    assert read_lines(path) == whole
    with Lines(path, keep=lambda entry: entry["n"] != 2, durable=durable) as lines:
        assert lines.damaged == bad.count(b"\n") + (not bad.endswith(b"\n"))
        assert read_lines(path) == [whole[0], whole[2]]
        lines.append([{"n": 9}])
    assert read_lines(path)[-1] == {"n": 9}
    with path.open("ab") as file:
        file.write(b'{"n": 5')  # As if killed while writing: that is no damage.
    with Lines(path, durable=durable) as lines:
        assert not lines.damaged
        assert read_lines(path)[-1] == {"n": 9}
    assert read_lines(tmp_path / "none.jsonl") == []


def test_no_changed_bit_of_a_durable_line_is_read(tmp_path):
    path = tmp_path / "x.jsonl"
    entry = {"value": 0.25, "genome": {"units": [8, 16]}, "reason": ""}
    with Lines(path, durable=True) as lines:
        lines.append([entry])
    raw = path.read_bytes()
    for place in range(len(raw) - 1):
        for bit in range(8):
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])
            assert read_lines(path) in ([], [entry])  # As it was: a space for another, or 2.5e-1.


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_and_not_waited_for(make, tmp_path):
    make(tmp_path / "result.json")
    make(tmp_path / "x.jsonl")
    for read, name in ((read_lines, "x.jsonl"), (lambda path: read_result(path.parent), "result.json")):
        with pytest.raises(InputError, match="is a folder, a pipe or a device"):
            read(tmp_path / name)


def test_what_is_durable_is_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    for durable in (False, True):
        with Lines(tmp_path / f"{durable}.jsonl", durable=durable) as lines:
            before = len(synced)
            lines.append([{"n": 1}])
            assert len(synced) - before == durable


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    atomic_write(path, "old")

    def full(fd):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        atomic_write(path, "new and longer")
    assert path.read_text() == "old"


COMMAND = [sys.executable, "-m", "jevo.experiments.masks"]


def arguments(folder, **settings):
    flags = []
    for name, value in {**SMALL, "out": folder, **settings}.items():
        flags += [f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return flags


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(signal_name, tmp_path):
    """Real processes, really killed, at generations that no checkpoint foresees; bit for bit the same result."""
    import signal
    import time

    settings = {"generations": 400, "checkpoint_every": 20, "hidden": (64,), "population": 40}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(COMMAND + arguments(whole, **settings), check=True, capture_output=True)
    kills = 0
    for attempt in range(30):
        process = subprocess.Popen(
            COMMAND + arguments(broken, **settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Once it computes, let it go on a little longer each time.
        target = broken / ("metrics.jsonl" if attempt < 2 else "random_search.jsonl")
        size = target.stat().st_size if target.exists() else 0
        while process.poll() is None and (not target.exists() or target.stat().st_size <= size):
            time.sleep(0.005)
        time.sleep(0.1 + 0.15 * attempt)
        if process.poll() is None and attempt < 4:
            process.send_signal(getattr(signal, signal_name))
            kills += 1
        _, error = process.communicate(timeout=120)
        assert "Traceback" not in error
        if process.returncode == 0:
            break
        if signal_name != "SIGKILL":
            assert process.returncode == 130
            assert "the same command goes on" in error
    assert process.returncode == 0
    assert kills >= 2
    assert deterministic(broken) == deterministic(whole)
    assert [path.name for path in Path(broken).glob(".*")] == [".lock"]


def test_bad_input_ends_a_command_with_code_2_and_one_line():
    done = subprocess.run([*COMMAND, "--population", "none"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_interrupted_is_not_an_error_of_the_user():
    assert not issubclass(Interrupted, InputError)


def test_a_summary_gives_median_and_range(finished, tmp_path, capsys):
    import copy

    from jevo.summary import main

    result = json.loads((finished / "result.json").read_text())
    for seed, accuracy in enumerate([0.5, 0.7, 0.6]):
        other = copy.deepcopy(result)
        other["seed"] = other["config"]["seed"] = seed
        other["metrics"]["test"]["accuracy"] = accuracy
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "result.json").write_text(json.dumps(other))
    main([str(tmp_path / name) for name in "012"])
    out = capsys.readouterr().out
    assert "0.6000 (0.5000-0.7000)" in out
    assert "Median (range) of seeds 0, 1, 2." in out
    other["config"]["population"] = 99
    (tmp_path / "2" / "result.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        main([str(tmp_path / name) for name in "012"])
    assert "differ in more than their seed: population" in capsys.readouterr().err


def made_up(accuracies, seed):
    """A result of as many seeds as there are accuracies: the control has 0.1 less each, the reference 0.1 more."""

    def outcome(more):
        metrics = [{split: {"accuracy": accuracy + more} for split in SPLITS} for accuracy in accuracies]
        return Outcome([], {"evaluations": 5, "gradient_steps": 7}, [Judged(None, each, None) for each in metrics])

    outcomes = {"search": outcome(0), "random_search": outcome(-0.1), "trained": outcome(0.1)}
    verdicts = comparison(outcomes, seed)
    data = {"name": "digits", "shape": [8, 8, 1], "classes": ["0", "1"], "note": "", **dict.fromkeys(SPLITS, 10)}
    settings = {"config": {"repeats": len(accuracies)}, "preset": "default", "data": data}
    budget = {"wall_s": 1.0, "compile_s": 1.0}
    for entry in (verdicts, verdicts["control"], *verdicts["references"].values()):
        entry["budget"] = entry["budget"] | budget
    return {"experiment": "masks", "seed": seed, **settings, **verdicts}


def test_a_run_of_several_seeds_is_as_several_runs(tmp_path, capsys):
    from jevo.summary import main

    accuracies = [0.5, 0.7, 0.65]
    many = made_up(accuracies, 4)
    each = [made_up([accuracy], 4 + i) for i, accuracy in enumerate(accuracies)]
    assert many["metrics"]["test"]["accuracy"] == 0.65  # The median.
    seeds = report.by_seed(many)
    for name in ("seed", "metrics", "control", "references"):
        assert [seed[name] for seed in seeds] == [one[name] for one in each]
    assert report.table([many]) == report.table(each)
    (tmp_path / "result.json").write_text(json.dumps(many))
    main([str(tmp_path)])
    out = capsys.readouterr().out
    for row, cell in (
        ("masks", "0.6500 (0.5000-0.7000)"),
        ("random search (control)", "0.5500 (0.4000-0.6000)"),
        ("trained (reference)", "0.7500 (0.6000-0.8000)"),
    ):
        assert f"| {row} | {' | '.join([cell] * 3)} | 5 | 7 |" in out
    assert "Median (range) of seeds 4, 5, 6." in out


def test_a_partial_file_is_a_new_one(tmp_path):
    """Whatever has its name: a link to another file is not followed, a pipe not waited for."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".a.partial").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / ".b.partial")
    for name in "ab":
        atomic_write(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"


def test_reading_deletes_no_checkpoint_and_a_busy_system_is_no_damage(tmp_path, monkeypatch):
    from jevo.runs import checkpoint

    checkpoints, read = Checkpoints(tmp_path), checkpoint._read
    for generation in (1, 2):
        checkpoints.save(generation, {"w": jnp.full(3, generation)})
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "7").write_text("no folder")
    like = {"w": jnp.zeros(3, jnp.int32)}

    def busy(folder, like):
        raise ValueError(f"UNAVAILABLE: [OS error 24: {os.strerror(errno.EMFILE)}]")

    monkeypatch.setattr(checkpoint, "_read", busy)
    with pytest.raises(ValueError, match="Too many open files"):
        checkpoints.restore(like)

    def damaged(folder, like):
        if folder.name == "2":
            raise ValueError
        return read(folder, like)

    monkeypatch.setattr(checkpoint, "_read", damaged)
    assert checkpoints.restore(like)[0] == 1
    assert checkpoints.generations() == [1, 2]
    checkpoints.save(2, {"w": jnp.full(3, 5)})  # Over the damaged one.
    monkeypatch.setattr(checkpoint, "_read", read)
    generation, found, said = Checkpoints(tmp_path).restore(like)
    assert (generation, found["w"].tolist(), said) == (2, [5, 5, 5], [])
    assert (tmp_path / "notes").read_text() == "mine"


def test_arrays_of_another_shape_are_refused(tmp_path):
    save_arrays(tmp_path / "x", {"a": jnp.ones((1, 3, 2))})
    for shape in ((3, 2), (1, 3), (1, 3, 3), (2, 3, 2)):
        with pytest.raises(InputError, match="cannot be read"):
            load_arrays(tmp_path / "x", {"a": jnp.zeros(shape)})


def test_a_message_is_one_line_whatever_is_in_it():
    assert str(InputError("class 'a\nb\u2028\ud800é'")) == "class 'a\\nb\\u2028\\ud800é'"
