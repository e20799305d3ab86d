"""The notebooks as git has them, and the addresses that are given.

That notebooks run is shown elsewhere: `pytest --nbmake notebooks`; that they show what they keep, by
`python -m tests.notebooks --check`.
"""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests import notebooks

ROOT = Path(__file__).parent.parent
NAMES = ["autoencoder", "hybrid", "hyperparams", "masks", "throughput", "your_own_model"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
COLAB = REPOSITORY.replace("https://github.com", "https://colab.research.google.com/github") + "/blob/main/notebooks"


def cells(name, kind):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_all_are_there():
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name != "throughput"])
def test_outputs_are_those_of_its_code(name):
    """Of a whole run, from the first cell to the last, without an error, of the code as it stands."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert notebook["metadata"]["jevo"]["outputs_of"] == notebooks.source(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, 1 + len(code)))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_times_of_another_machine_are_not_kept():
    notebook = json.loads((ROOT / "notebooks" / "throughput.ipynb").read_text())
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_a_table_is_another_where_a_word_or_a_number_is():
    assert notebooks.alike("| hybrid | 0.912 (0.9-1.0) | 1,200 |", "| hybrid | 0.915 (0.9-1.0) | 1,200 |")
    assert not notebooks.alike("| hybrid | 0.912 |", "| hybrid | 0.812 |")
    assert not notebooks.alike("| hybrid | 0.912 |", "| masks | 0.912 |")


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_in_colab_and_installs_jevo(name):
    """From PyPI, or from the repository; on a TPU where there is one."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    assert notebook["metadata"]["accelerator"] == "TPU"
    assert f"({COLAB}/{name}.ipynb)" in cells(name, "markdown")[0]
    install = cells(name, "code")[0]
    assert install == cells("masks", "code")[0]
    assert f'" @ git+{REPOSITORY}"' in install
    assert '%pip install -q "jevo{extra}{source}"' in install
    assert f"({COLAB}/{name}.ipynb)" in (ROOT / "docs" / "notebooks.md").read_text()


def test_no_other_address_is_given():
    pages = [ROOT / "README.md", ROOT / "CITATION.cff", *ROOT.glob("docs/*.md")]
    texts = [*(page.read_text() for page in pages), *(text for name in NAMES for text in cells(name, "markdown"))]
    for text in texts:
        for owner in re.findall(r"github(?:\.com)?/([\w.-]+/[\w.-]+)", text):
            assert f"github.com/{owner}".endswith(REPOSITORY.removeprefix("https://")), owner


def test_who_cites_cites_this():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    told = [citation["repository-code"], citation["version"], citation["license"]]
    assert told == [REPOSITORY, PROJECT["version"], PROJECT["license"]]


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_algorithm_and_has_a_short_form(name):
    code = "\n".join(cells(name, "code")[1:])  # The first one has IPython's own words in it.
    assert 'os.environ.get("JEVO_SMOKE")' in code
    for node in ast.walk(ast.parse(code)):
        assert not isinstance(node, (ast.ClassDef, ast.While))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jevo"):
            assert not any(part.startswith("_") for part in [*node.module.split("."), *(a.name for a in node.names)])
