"""README and pages: their Python and YAML work as they stand there, their commands can be given, and what they point to
is there.

The README's first two commands, which install jevo, are run by `.ci/run`, and so is what makes a site of the pages.
"""

import dataclasses
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from jevo import predict, summary
from jevo.benchmark.__main__ import BENCHMARKS
from jevo.experiments import EXPERIMENTS, experiment
from jevo.genetics import Algorithm
from jevo.hyperparams import parse_space
from jevo.mixed import architecture, check_genes
from jevo.networks import Network
from jevo.runs.arguments import from_command_line, parse
from jevo.runs.own import build_own
from jevo.types import Cross, Mutate, Select
from tests.operators import exported

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
RECORDS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("experiments/*/README.md")}
"""Which pages of the site include."""
OWN = [name for name, module in EXPERIMENTS.items() if module.startswith("jevo.")]
GOOD = {
    ("README.md", "accuracy of an evolved run"): lambda words, names: float(words[-1]) > 0.8,
    ("docs/index.md", "a champion answers"): lambda words, names: len(words[:5]) == 5 and names["answer"],
    ("docs/operators.md", "accuracy of an evolved network"): lambda words, names: float(words[-1]) > 0.5,
    ("docs/own_network.md", "a network of one's own"): lambda words, names: isinstance(
        build_own(names["MyNet"], (8, 8, 1), 10, "MyNet"), Network
    ),
    ("docs/own_network.md", "loss of a trained one"): lambda words, names: 0 < float(words[-1]) < 0.3,
    ("docs/own_network.md", "loss of one with state"): lambda words, names: 0 < float(words[-1]) < 0.3,
    ("docs/own_task.md", "a goal of one's own"): lambda words, names: names["quantiles"].outputs == 3,
    ("docs/own_task.md", "accuracy of a run with validation"): lambda words, names: float(words[-1]) > 0.7,
    ("docs/own_task.md", "ask and tell"): lambda words, names: float(words[-1]) < 0.3,
    ("docs/spaces.md", "score of a search"): lambda words, names: float(words[0]) > 0.9,
}
"""What a block of Python has to have printed, in words, or named; by its page, in order."""
LONG = [
    ("docs/operators.md", "accuracy of an evolved network"),
    ("docs/own_network.md", "loss of one with state"),
    ("docs/own_task.md", "accuracy of a run with validation"),
]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_all_python_is_run():
    found = [page for page, text in PAGES.items() for _ in blocks(text, "python")]
    assert sorted(found) == sorted(page for page, _ in GOOD)


@pytest.mark.parametrize(
    ("page", "what"), [pytest.param(*block, marks=[pytest.mark.slow] if block in LONG else []) for block in GOOD]
)
def test_python_runs(page, what, capsys, tmp_path, monkeypatch, smoke):
    monkeypatch.chdir(tmp_path)
    if page == "docs/index.md":  # It goes on with the run of its commands.
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "masks-digits-smoke-seed0").symlink_to(smoke("masks"))
    number = [name for of, name in GOOD if of == page].index(what)
    names = {"__name__": "example"}
    exec(compile(blocks(PAGES[page], "python")[number], page, "exec"), names)
    assert GOOD[page, what](capsys.readouterr().out.split(), names)


def test_the_space_is_one(key):
    (text,) = [block for page in PAGES.values() for block in blocks(page, "yaml")]
    space = parse_space(yaml.safe_load(text), "a page")
    check_genes(space)
    of, _ = architecture(space.decode(space.init(key)), (32, 32, 3), 10, 10)
    assert 1e-4 <= of.learning_rate <= 1e-2


REQUESTS = {"jevo.predict": predict.Request, "jevo.summary": summary.Request}
PLACEHOLDERS = {"HOST:PORT": "host:1234", "SEED": "0", "CROSSOVER": "average", "S": "0"}
COMMANDS = sorted(
    {
        (page, line.split(" #")[0].strip())
        for page, text in (PAGES | RECORDS).items()
        for block in blocks(text, "sh")
        for line in block.replace("\\\n", "").splitlines()
        if " -m jevo" in line and not line.startswith("python3 ")
    }
)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_the_settings_of_a_command_are_settings(page, command):
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    module, *arguments = words[words.index("-m") + 1 :]
    if module == "jevo.benchmark":
        name, *arguments = arguments or ["masks"]
        parse(BENCHMARKS[name].settings, arguments)
    elif module in REQUESTS:
        parse(REQUESTS[module], arguments)
    else:
        from_command_line(importlib.import_module(module).Config, arguments)


def test_flags_that_are_spoken_of_exist():
    settings = [benchmark.settings for benchmark in BENCHMARKS.values()]
    kinds = [*REQUESTS.values(), *settings, *(experiment(name).config for name in OWN)]
    known = {field.name.replace("_", "-") for kind in kinds for field in dataclasses.fields(kind)}
    known |= {f"no-{name}" for name in known} | {"help", "help-all"}
    for page, text in (PAGES | RECORDS).items():
        spoken = [found for found in re.findall(r"`([^`\n]+)`", text) if not re.search(r"pip|mkdocs|xla", found)]
        flags = {flag for words in spoken for flag in re.findall(r"(?:^|\s)--([\w-]+)", words)}
        assert flags <= known, page


def test_what_they_point_to_is_there():
    count = 0
    for page, text in (PAGES | RECORDS).items():
        for link in re.findall(r"\]\(((?!\w+:)[^)#\s]+)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"
            count += 1
    assert count > 60


def test_the_readme_fits_two_screens():
    assert len(PAGES["README.md"].splitlines()) < 120


def test_readme_and_pages_tell_of_every_experiment():
    assert re.findall(r"^\| \[`(\w+)`\]\(docs/", PAGES["README.md"], re.MULTILINE) == OWN
    for name in OWN:
        text = PAGES[f"docs/{name}.md"]
        assert text.startswith(f"# `{name}`: ")
        assert "![" in text
        assert f"<!-- include -->\n[All recorded runs, with their commands](../experiments/{name}/README.md)" in text


def test_the_page_of_operators_names_them_all():
    told = set(re.findall(r"(\w+)\(", PAGES["docs/operators.md"]))
    assert set(exported(Select, Cross, Mutate, Algorithm)) <= told
