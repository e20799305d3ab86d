"""The notebooks as git has them. That they run is shown elsewhere: `pytest --nbmake notebooks`."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = ["autoencoder", "hybrid", "hyperparams", "masks", "throughput", "your_own_model"]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COLAB = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github") + "/blob/main/notebooks"


def cells(name, kind):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_all_are_there():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stripped(name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_colab_and_installs_jevo_from_the_repository(name):
    assert f"({COLAB}/{name}.ipynb)" in cells(name, "markdown")[0]
    assert f'@ git+{REPOSITORY}"' in cells(name, "code")[0]
    assert f"({COLAB}/{name}.ipynb)" in (ROOT / "README.md").read_text()


def test_no_other_address_is_given():
    texts = [(ROOT / "README.md").read_text(), *(text for name in NAMES for text in cells(name, "markdown"))]
    for text in texts:
        for owner in re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+)", text):
            assert f"github.com/{owner}".endswith(REPOSITORY.removeprefix("https://")), owner


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_algorithm_and_has_a_short_form(name):
    code = "\n".join(cells(name, "code")[1:])  # The first one has IPython's own words in it.
    assert 'os.environ.get("JEVO_SMOKE")' in code
    for node in ast.walk(ast.parse(code)):
        assert not isinstance(node, (ast.ClassDef, ast.While))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jevo"):
            assert not any(part.startswith("_") for part in [*node.module.split("."), *(a.name for a in node.names)])
