"""The README's Python and YAML work as they stand there."""

import re
from pathlib import Path

import pytest
import yaml

from jevo.hyperparams import architecture, check_genes, parse_space

README = Path(__file__).parent.parent / "README.md"
GOOD = {
    "accuracy of an evolved network": lambda words: float(words[-1]) > 0.5,
    "loss of a trained one": lambda words: 0 < float(words[-1]) < 0.3,
    "score of a search": lambda words: float(words[0]) > 0.9,
}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(GOOD)), ids=list(GOOD))
def test_the_python_in_the_readme_runs(number, capsys):
    assert len(blocks("python")) == len(GOOD)
    exec(compile(blocks("python")[number], str(README), "exec"), {})
    assert list(GOOD.values())[number](capsys.readouterr().out.split())


def test_the_space_in_the_readme_is_one(key):
    (text,) = blocks("yaml")
    space = parse_space(yaml.safe_load(text), "README")
    check_genes(space)
    of, _ = architecture(space.decode(space.init(key)), (32, 32, 3), 10, 10)
    assert 1e-4 <= of.learning_rate <= 1e-2
