"""The README's Python and YAML work as they stand there, its commands can be given, and what it points to is there.

Its first two commands, which install jevo, are run by `.ci/run`.
"""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from jevo.benchmark.__main__ import BENCHMARKS
from jevo.hyperparams import parse_space
from jevo.mixed import architecture, check_genes
from jevo.runs.arguments import from_command_line

README = Path(__file__).parent.parent / "README.md"
GOOD = {
    "a goal of one's own": lambda words: not words,
    "accuracy of an evolved network": lambda words: float(words[-1]) > 0.5,
    "accuracy of an evolved run": lambda words: float(words[-1]) > 0.8,
    "loss of a trained one": lambda words: 0 < float(words[-1]) < 0.3,
    "loss of one with state": lambda words: 0 < float(words[-1]) < 0.3,
    "score of a search": lambda words: float(words[0]) > 0.9,
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(GOOD)), ids=list(GOOD))
def test_the_python_in_the_readme_runs(number, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) == len(GOOD)
    exec(compile(blocks("python")[number], str(README), "exec"), {})
    assert list(GOOD.values())[number](capsys.readouterr().out.split())


def test_the_space_in_the_readme_is_one(key):
    (text,) = blocks("yaml")
    space = parse_space(yaml.safe_load(text), "README")
    check_genes(space)
    of, _ = architecture(space.decode(space.init(key)), (32, 32, 3), 10, 10)
    assert 1e-4 <= of.learning_rate <= 1e-2


COMMANDS = [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if line.startswith("python -m")]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_of_a_command_are_settings(command):
    _, _, module, *arguments = shlex.split(command.replace("HOST:PORT", "host:1234"))
    if module == "jevo.benchmark":
        assert set(arguments) <= set(BENCHMARKS)
    else:
        from_command_line(importlib.import_module(module).Config, arguments)


def test_what_it_points_to_is_there():
    links = re.findall(r"\]\(((?!https?://)[^)#]+)", README.read_text())
    assert len(links) > 15
    for link in links:
        assert (README.parent / link).exists(), link
