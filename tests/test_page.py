"""The first line of a report, and the report as one file."""

import base64
import re

import pytest
from PIL import Image

from jevo.runs.page import page
from jevo.runs.report import report, table, verdict


def judged(metric, *values, spent=None):
    metrics = {split: {metric: values[0]} for split in ("train", "validation", "test")}
    return {"metrics": metrics, "budget": spent or {"evaluations": 4000, "gradient_steps": 0}}


def result(metric, mine, theirs, **spent):
    """Of as many seeds as there are pairs."""
    own, control = ({**judged(metric, values[0], spent=spent)} for values in (mine, theirs))
    repeats = [
        {"seed": i, **judged(metric, a), "control": judged(metric, b), "references": {}}
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True))
    ]
    return {
        "experiment": "masks", "seed": 0, **own, "control": {"name": "random search", **control}, "references": {},
        **({"repeats": repeats} if len(mine) > 1 else {}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "mine", "theirs", "expected"),
    [
        ("accuracy", [0.9], [0.25], "masks beats random search by 0.6500 in test accuracy: 0.9000 against 0.2500"),
        ("accuracy", [0.5], [0.75], "random search beats masks by 0.2500 in test accuracy: 0.7500 against 0.5000"),
        ("loss", [0.5], [0.75], "masks beats random search by 0.2500 in test loss: 0.5000 against 0.7500"),
        ("r2", [0.5], [0.5], "masks and random search are level: test r2 0.5000"),
        ("of my own", [0.5], [0.25], "masks has test of my own 0.5000, random search 0.2500"),
    ],
)
def test_the_verdict_says_who_won_by_how_much(metric, mine, theirs, expected):
    said = verdict(result(metric, mine, theirs, evaluations=4000, gradient_steps=0))
    assert said == f"**{expected}**, at 4,000 evaluations each; one seed."


def test_the_verdict_of_several_seeds_is_of_medians_and_counts_wins():
    said = verdict(result("loss", [0.1, 0.5, 0.3], [0.4, 0.4, 0.4], epochs=410, evaluations=9, gradient_steps=7))
    assert said.startswith(
        "**masks beats random search by 0.1000 in test loss: 0.3000 against 0.4000**, in the median of 3"
    )
    assert said.endswith("at 410 epochs each; masks is better in 2 of 3.")


def test_the_verdict_names_both_budgets_where_they_differ():
    found = result("accuracy", [0.9], [0.25], evaluations=9, epochs=410)
    found["control"]["budget"] = {"evaluations": 9, "epochs": 432}
    assert verdict(found).endswith("at 410 epochs (random search 432); one seed.")


def test_the_verdict_counts_no_wins_where_nobody_knows_what_is_better():
    several = result("of my own", [0.1, 0.5], [0.4, 0.4], evaluations=9)
    assert verdict(several).endswith("in the median of 2 seeds, at 9 evaluations each.")
    # A goal of the user's own may call anything an accuracy.
    own_goal = result("accuracy", [0.9], [0.25], evaluations=9) | {"outputs": 1}
    assert "beats" not in verdict(own_goal)
    assert "beats" in verdict(result("loss", [0.9], [0.25], evaluations=9) | {"outputs": 1})
    assert "beats" not in verdict(result("r2", [float("nan")], [0.25], evaluations=9))


def test_two_test_numbers_first_and_all_of_them_below():
    found = result("accuracy", [0.9], [0.25], evaluations=1, gradient_steps=0, wall_s=1.0, compile_s=1.0) | {
        "data": {"name": "digits", "train": 1, "validation": 1, "test": 1, "note": ""}, "preset": "default",
        "device": {"kind": "cpu", "count": 1, "platform": "cpu"}, "precision": "float32",
    }  # fmt: skip
    text = report(found, "python -m x", {"curves.png": "Curves."})
    first, _, rest = text.partition("\n\n![")
    assert first.split("\n\n")[1] == verdict(found)
    assert first.split("\n\n")[2] == table([found], ["test"])
    assert "validation accuracy" not in first
    assert rest.endswith(table([found]) + "\n")


@pytest.fixture
def folder(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    return tmp_path


def test_a_page_needs_nothing_beside_it(folder):
    text = page("# A run\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![What it <shows>](a.png)\n", folder)
    assert "<title>A run</title>" in text
    assert "<td>1</td>" in text
    (image,) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="What it &lt;shows&gt;">', text)
    assert base64.b64decode(image) == (folder / "a.png").read_bytes()
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


@pytest.mark.parametrize("name", ["../a.png", "https://host/a.png", "b.png", "a.svg", "file:///a.png"])
def test_a_page_holds_no_picture_but_those_of_its_run(folder, name):
    inner = folder / "run"
    inner.mkdir()
    assert "<img" not in page(f"![x]({name})", inner)


def test_what_a_name_holds_is_text(folder):
    text = page("# <script>alert(1)</script>\n\n<script>alert(2)</script>\n", folder)
    assert "<script>" not in text
