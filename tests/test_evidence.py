"""What README's first table says that jevo reaches is what was recorded."""

import json
import re
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jevo.data.datasets import SPLITS
from jevo.runs.report import by_seed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


class Claim(NamedTuple):
    """A number of the table.

    Attributes:
        text: as it is written there, without emphasis: a median, and perhaps the range in brackets.
        runs: folders of the records, one or more seeds.
        metric: by split and name; or the key of a finding that has a number for each seed, and whose.
        who: the experiment ("own"), its "control", or a reference by its name.
    """

    text: str
    runs: str
    metric: tuple[str, str] = ("test", "accuracy")
    who: str = "own"


CLAIMS = [
    Claim(".321 (.275-.339)", "masks/mnist-faithful-39/seed*", ("train", "accuracy")),
    Claim(".327", "masks/mnist-faithful-39/seed*"),
    Claim(".735 (.729-.740)", "masks/mnist-default-39/seed*"),
    Claim(".946 (.945-.947)", "masks/mnist-perturbation-999/seed*"),
    Claim(".124", "masks/mnist-faithful-39/seed*", who="control"),
    Claim(".206", "masks/mnist-default-39/seed*", who="control"),
    Claim(".187", "masks/mnist-perturbation-999/seed*", who="control"),
    Claim(".0878 (.0740-.0942)", "hybrid/epileptic-faithful", ("final_loss", "search")),
    Claim(".1025 (.0973-.1038)", "hybrid/epileptic-faithful", ("final_loss", "restarts")),
    Claim(".0957", "hybrid/epileptic-faithful", ("final_loss", "long_run")),
    Claim(".9802 (.9797-.9804)", "hybrid/mnist-rivals"),
    Claim(".9790", "hybrid/mnist-rivals", who="control"),
    Claim(".9776", "hybrid/mnist-rivals", who="papa"),
    Claim(".9786", "hybrid/mnist-rivals", who="wash"),
    Claim(".9781", "hybrid/mnist-rivals", who="pbt"),
    Claim("1.42% (1.40-1.53)", "autoencoder/mnist-relu-*", ("test", "svm_error")),
    Claim("1.61%", "autoencoder/mnist-relu-*", ("test", "svm_error"), "control"),
    Claim("1.84%", "autoencoder/mnist-relu-*", ("test", "svm_error"), "sgd-joint"),
    Claim(".5310", "hyperparams/cifar10-cnn-short-0"),
    Claim(".5065", "hyperparams/cifar10-cnn-short-0", who="control"),
    Claim(".5731", "hyperparams/cifar10-mlp-10"),
    Claim(".5371", "hyperparams/cifar10-mlp-10", who="control"),
    Claim(".5646", "hyperparams/cifar10-mlp-10", who="random halving"),
]


def values(claim: Claim) -> list[float]:
    """The metric of every seed that was recorded."""
    paths = sorted(ROOT.glob(f"experiments/{claim.runs}/result.json"))
    split, name = claim.metric
    if split not in SPLITS:
        return [value for path in paths for value in json.loads(path.read_text())[split][name]]
    results = [one for path in paths for one in by_seed(json.loads(path.read_text()))]
    who = {"own": lambda one: one, "control": lambda one: one["control"]}.get(
        claim.who, lambda one: one["references"][claim.who]
    )
    return [who(one)["metrics"][split][name] for one in results]


def written(value: float, like: str) -> str:
    """A number in the form of another: as many decimals, no zero before the point, or percent."""
    digits = len(like.rstrip("%").partition(".")[2])
    return f"{100 * value:.{digits}f}%" if like.endswith("%") else f"{value:.{digits}f}".removeprefix("0")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.text} of {claim.runs}")
def test_a_number_of_readme_is_the_recorded_one(claim):
    middle, *ends = re.findall(r"[.\d]+%?", claim.text)
    found = values(claim)
    assert written(statistics.median(found), middle) == middle
    if ends:
        form = f"{middle.rstrip('%')}%" if middle.endswith("%") else middle
        assert [written(end, form).rstrip("%") for end in (min(found), max(found))] == ends
    else:
        assert len(found) >= 1


def test_every_number_of_readme_that_jevo_reaches_is_a_claim():
    table = README.partition("| system |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) == 5
    for row in rows:
        said = "; ".join(row[3:]).replace("**", "")
        assert any(claim.text in said for claim in CLAIMS)
        for claim in sorted(CLAIMS, key=lambda claim: -len(claim.text)):
            said = said.replace(claim.text, "")
        assert re.findall(r"\d?\.\d+", said) == []


def spent(found: Any) -> float:
    """The seconds of all who compete in a result, of searching and of compiling; seeds side by side share them."""
    if not isinstance(found, dict):
        return 0.0
    budget = found.get("budget", {})
    own = (budget.get("wall_s") or 0) + (budget.get("compile_s") or 0)
    return own + sum(spent(value) for name, value in found.items() if name not in ("budget", "repeats"))


def test_the_page_of_all_records_has_each_with_its_command_and_its_time():
    page, folder = (ROOT / "experiments" / "README.md").read_text(), ROOT / "experiments"
    told, total = set(), 0.0
    for part in page.split("## ")[1:]:
        rows = re.findall(r"^\| \[(.*?)\]\(\S+\) \| [\d-]+ \| ([\d,]+) \|$", part, re.MULTILINE)
        commands = re.findall(r"^python -m jevo\.experiments\.(\w+)", part, re.MULTILINE)
        assert commands == [part.split("\n")[0]] * len(rows)
        for pattern, seconds in rows:
            paths = sorted(folder.glob(f"{pattern}/result.json"))
            took = sum(spent(json.loads(path.read_text())) for path in paths)
            assert f"{took:,.0f}" == seconds, pattern
            told, total = told | set(paths), total + took
    experiments = {path for path in folder.rglob("result.json") if "experiment" in json.loads(path.read_text())}
    assert told == experiments
    assert f"take {total / 3600:.1f} hours" in page
