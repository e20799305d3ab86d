"""Imports run one way: types, population, bits, data; genetics, networks, training; hyperparams, runs; experiments."""

import ast
from pathlib import Path

import jevo

ROOT = Path(jevo.__file__).parent
LAYERS = [
    {"types", "population", "bits", "data"},
    {"genetics", "networks", "training"},
    {"hyperparams", "runs"},
    {"experiments", "benchmark", "predict"},
]
# Within the first layer: words first, then what is written in them.
FIRST = ["types", "population", "bits", "data"]
HIGHER = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def imports():
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).with_suffix("").parts[0]
        if part == "__init__":
            continue
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
        if name[0] != "jevo":
            continue
        other = name[1]
        seen.add(part)
        assert other in HIGHER, f"{path}: jevo.{other} has no place in the layers"
        if other == part:
            continue
        assert HIGHER[other] <= HIGHER[part], f"{path}: {part} may not import {other}"
        if HIGHER[part] == 0:
            assert FIRST.index(other) < FIRST.index(part), f"{path}: {part} may not import {other}"
        assert (part, other) not in {("genetics", "networks"), ("genetics", "training"), ("networks", "genetics")}
    assert seen >= {"genetics", "networks", "training", "runs", "experiments"}


def test_only_runs_and_data_touch_the_disk():
    for path, part, name in imports():
        if part in ("types", "population", "bits", "genetics", "networks", "training"):
            assert name[0] not in {"os", "pathlib", "shutil", "io", "json", "yaml", "orbax", "tempfile"}, path
