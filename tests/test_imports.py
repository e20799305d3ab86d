"""Imports run one way, from experiments down to errors, and only plots draws."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jevo
from jevo import plots
from jevo.experiments import EXPERIMENTS

ROOT = Path(jevo.__file__).parent
LAYERS = [
    {
        "version",
        "errors",
        "types",
        "stateful",
        "symmetry",
        "memory",
        "kept",
        "devices",
        "programs",
        "population",
        "bits",
        "data",
    },
    {"genetics", "networks", "training", "plots"},
    {"hyperparams", "mixed", "runs"},
    {"experiments", "benchmark"},
    {"predict", "redraw", "summary"},
    {"__main__"},
    {"completion"},
]
# Within the first layer: words first, then what is written in them.
FIRST = [
    "version",
    "errors",
    "types",
    "stateful",
    "symmetry",
    "memory",
    "kept",
    "devices",
    "programs",
    "population",
    "bits",
    "data",
]
# Parts of one layer that must not know each other, and a search that must not know what it searches over.
APART = {
    "genetics": {"networks", "training"},
    "networks": {"genetics", "training"},
    "plots": {"genetics", "networks", "training"},
    "hyperparams": {"networks", "training", "mixed", "runs"},
    "mixed": {"runs"},
    "runs": {"hyperparams", "mixed"},
    "experiments": {"benchmark"},
    "benchmark": {"experiments"},
}
HIGHER = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def imports():
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((path, part, name.split(".")) for name in names)


def test_imports_run_one_way():
    seen = set()
    for path, part, name in imports():
        if name[0] != "jevo" or part == "__init__":
            continue
        other = name[1]
        seen.add(part)
        assert other in HIGHER, f"{path}: jevo.{other} has no place in the layers"
        if other == part:
            continue
        assert HIGHER[other] <= HIGHER[part], f"{path}: {part} may not import {other}"
        if HIGHER[part] == 0:
            assert FIRST.index(other) < FIRST.index(part), f"{path}: {part} may not import {other}"
        assert other not in APART.get(part, ()), f"{path}: {part} may not import {other}"
    assert seen >= {"genetics", "networks", "training", "hyperparams", "mixed", "runs", "experiments"}


def test_the_engine_never_touches_the_disk():
    for path, part, name in imports():
        if part in ("types", "errors", "population", "bits", "genetics", "networks", "training"):
            assert name[0] not in {"os", "pathlib", "shutil", "io", "json", "yaml", "orbax", "tempfile"}, path


def test_only_plots_draws():
    knows = {part for _, part, name in imports() if name[0] in {"matplotlib", "mpl_toolkits", "pylab"}}
    assert knows == {"plots"}


@pytest.mark.parametrize("module", [module for module in EXPERIMENTS.values() if module.startswith("jevo.")])
def test_a_first_generation_waits_for_no_library_that_only_the_last_one_needs(module):
    code = f"""if True:
        import sys
        import {module}
        from jevo.data import load
        load("digits")
        print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
    """
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "jax" in loaded
    assert not {"matplotlib", "sklearn", "scipy", "orbax", "optuna", "ray", "pyarrow", "tensorflow_datasets"} & {
        *loaded
    }


def test_every_name_of_plots_is_there():
    for name in plots.__all__:
        assert getattr(plots, name).__module__.startswith("jevo.plots") or name == "LEVEL"
    with pytest.raises(AttributeError, match="no attribute 'pictures'"):
        _ = plots.pictures
