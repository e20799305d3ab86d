"""Whatever a user's file or flag holds ends in one plain line, and at once."""

import dataclasses
import math
import random
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo.errors import InputError
from jevo.experiments import experiment
from jevo.experiments.hybrid import Config as Hybrid
from jevo.experiments.masks import Config as Masks
from jevo.runs.arguments import as_arguments, from_command_line, from_settings, resolved
from jevo.runs.settings import read_settings, read_yaml
from tests import bad_input


def written(tmp_path, content):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("number", range(6))
def test_bad_input_of_every_kind_ends_in_one_line_or_is_good(number, tmp_path):
    """The long form is `python -m tests.bad_input`."""
    for i in range(25):
        folder = tmp_path / str(i)
        folder.mkdir()
        _, name, arguments = bad_input.trial(random.Random(f"suite {number} {i}"), folder)
        bad_input.attempt(name, arguments)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", "line 1 has an anchor or alias"), ("[" * 3000, "more than 20 deep"),
        ("{a: " * 3000, "more than 20 deep"), ("seed: " + "9" * 5000, "a number of 5,000 digits"),
        ("seed: 1\nseed: 2\n", "seed is there twice"), ("1: 2\n", "the name 1, which is no text"),
        ("a: 1\n---\nb: 2\n", "is not YAML"), ("a: \0", "is not YAML"), ("a:\n\t- 1", "is not YAML"),
        (b"data: caf\xe9\n", "no UTF-8 text (line 1); save it as UTF-8"), ("a: !!binary aGk=", "has the tag"),
        ("- 1\n", "'setting: value' lines, not list"), ("x" * 1_100_000, "1,100,000 bytes, which no settings have"),
        ("a: 'open", "is not YAML"), ("<<: {a: 1}\n&x y: 2", "anchor or alias"), ("a: !foo b", "has the tag"),
    ],
)  # fmt: skip
def test_yaml_that_is_no_settings_is_refused(content, says, tmp_path):
    with pytest.raises(InputError) as caught:
        read_yaml(written(tmp_path, content))
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_settings_file_is_a_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml", tmp_path / "none.yaml", Path("/dev/zero"), tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="there is no such file"):
            read_yaml(path)


def test_words_are_words_and_numbers_numbers(tmp_path):
    text = "a: no\nb: 010\nc: 1e-3\nd: 1:30\ne: 2020-01-01\nf: ~\ng: 'no'\nh: .5\ni: 0x10\nj: yes\nk: true\nl: 1_000\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert read_yaml(written(tmp_path, text.encode(encoding))) == {
            "a": "no", "b": 10, "c": 1e-3, "d": "1:30", "e": "2020-01-01", "f": None, "g": "no", "h": 0.5, "i": "0x10",
            "j": "yes", "k": True, "l": "1_000",
        }  # fmt: skip
    assert read_yaml(written(tmp_path, "# Nothing.\n")) == {}


@pytest.mark.parametrize("kind", [Masks, Hybrid])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_value_of_a_file_becomes_a_flag(kind, data, tmp_path_factory):
    """A value has the type of its setting, or is refused; nothing else of the settings changes."""
    field = data.draw(st.sampled_from(dataclasses.fields(kind)))
    words = st.sampled_from(["--fresh", "-", "--", "a b", "", "8", "nan", "~nosuchuser", "--seed=3"])
    scalars = st.one_of(words, st.integers(-(10**30), 10**30), st.floats(), st.booleans(), st.none())
    value = data.draw(st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(words, scalars, max_size=2)))
    path = written(tmp_path_factory.mktemp("settings"), yaml.safe_dump({field.name: value}))
    try:
        config = from_command_line(kind, ["--config", str(path)])
    except InputError as error:
        if len(str(error).splitlines()) > 1:
            raise
        return
    changed = {name for name, now in resolved(config).items() if now != resolved(kind.from_preset(config.preset))[name]}
    assert changed <= {field.name, "config"}
    assert from_settings(kind, resolved(config), "x") == config


@pytest.mark.parametrize("name", ["masks", "hybrid", "autoencoder", "hyperparams"])
def test_no_number_is_too_large_or_not_finite(name):
    kind = experiment(name).config
    for field in dataclasses.fields(kind):
        words = set(re.split(r"\W+", str(field.type)))
        if "Literal" in words or not words & {"int", "float"}:
            continue
        whole = (10**30, 2**32) if "int" in words else ()
        for value in (*whole, math.nan, math.inf, -math.inf, 1e39, 1e-39, "1e400", ".inf"):
            with pytest.raises(InputError) as caught:
                from_settings(kind, {field.name: value}, "x")
            assert field.name in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (Masks, {"hidden": (2**31 - 1,) * 2}, "widths up to 1,000,000"),
        (Masks, {"hidden": (1,) * 101}, "at most 100 values"),
        (Masks, {"search": "genetic", "selection": "tournament", "tournament_size": 21}, "the population of 20"),
        (Masks, {"population": 10**5000}, "a number of 16,610 bits"),
        (Hybrid, {"repeats": 2**31 - 1}, "repeats is 2147483647, but takes at most 1,000"),
        (
            Hybrid,
            {"repeats": 3, "seed": 2**32 - 2}, "seed is 4294967294, but takes a whole number from 0 to 4,294,967,293",
        ),
        (Hybrid, {"cycles": 10**6, "steps": 10**6, "legs": 1}, "cycles x steps"),
    ],
)  # fmt: skip
def test_sizes_that_would_overflow_are_refused(kind, given, says):
    with pytest.raises(InputError) as caught:
        kind(**given)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["08", "1e3", "1.50", "0x10", "1e400", ".5", "yes", "true", "null", "~", "1:30", "2020-01-01", "", "-",
             "#x", "--fresh", "a: b", "[a]", "*a", "a\nb", "'q'", "9" * 300],
)  # fmt: skip
def test_text_stays_as_it_is_written(text, tmp_path):
    """Whether 08 is a number or a class, the type of the setting says: in a run's own record, and where a user leaves
    out the quotes."""
    config = Hybrid(positive=text, network="logistic")
    path = written(tmp_path, yaml.safe_dump(resolved(config), allow_unicode=True))
    assert from_settings(Hybrid, read_settings(path), "x") == config
    assert from_command_line(Hybrid, as_arguments(config)) == config
    if text.isalnum():
        path = written(tmp_path, f"positive: {text}\nbreeders: 1.0\nbias: true\nhidden: [8, 4]\ncenter: 1e-3\n")
        found = from_command_line(Hybrid, ["--config", str(path)]) if text != "null" else config
        assert found.positive == text


def test_a_file_of_many_names_is_read_or_refused_at_once(tmp_path):
    for lines in (9_000, 90_000):
        path, began = written(tmp_path, "".join(f"a{i}: 1\n" for i in range(lines))), time.process_time()
        with pytest.raises(InputError, match=r"unknown setting 'a0'|bytes, which no"):
            from_command_line(Masks, ["--config", str(path)])
        assert time.process_time() - began < 5


@pytest.mark.parametrize("flag", ["--preset", "--config"])
def test_an_empty_word_is_no_preset_and_no_file(flag):
    with pytest.raises(InputError, match=r"unknown preset ''|cannot read the config file"):
        from_command_line(Masks, [f"{flag}="])


def test_a_seed_is_no_other_one():
    """JAX's keys have 32 bits: a greater seed would be another one's."""
    assert Masks(seed=2**32 - 1).seed == 2**32 - 1
    for seed in (-1, 2**32, 2**63):
        with pytest.raises(InputError, match="seed is"):
            Masks(seed=seed)


@pytest.mark.parametrize("flag", ["--data", "--data-dir", "--config"])
def test_a_user_that_is_not_there_is_named(flag):
    found, data = experiment("masks"), [] if flag == "--data" else ["--data", "mnist"]
    with pytest.raises(InputError, match="no such user"):
        found.dataset(from_command_line(found.config, [*data, flag, "~nosuchuser/x.csv"]))
