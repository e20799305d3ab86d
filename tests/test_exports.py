"""What packages export: every name is there, in order, none is forgotten, and none hides a module."""

import ast
import importlib
import pkgutil
from importlib import metadata
from pathlib import Path

import pytest

import jevo

ROOT = Path(jevo.__file__).parent
PACKAGES = sorted(".".join(path.parent.relative_to(ROOT.parent).parts) for path in ROOT.rglob("__init__.py"))


def public_imports(package):
    """The public names that its `__init__` imports, and the module that each is imported from."""
    found = {}
    for node in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = getattr(node, "module", None)
            found |= {alias.asname or alias.name.partition(".")[0]: source for alias in node.names}
    return {name: source for name, source in found.items() if not name.startswith("_")}


@pytest.fixture(params=PACKAGES)
def package(request):
    return importlib.import_module(request.param)


def test_all_that_is_exported_is_there_sorted_and_complete(package):
    exported = getattr(package, "__all__", [])
    assert [name for name in exported if not hasattr(package, name)] == []
    # Constants first, then classes, then the rest, as Ruff has it.
    assert exported == sorted(set(exported), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    inside = f"{package.__name__}."
    assert {name for name, source in public_imports(package).items() if f"{source}".startswith(inside)} <= set(exported)


def test_no_export_hides_a_module(package):
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    others = {name for name, source in public_imports(package).items() if source != package.__name__}
    assert others & modules == set()


def test_the_packages_that_users_import_from_are_seen():
    assert {"jevo", "jevo.data", "jevo.genetics", "jevo.networks", "jevo.plots", "jevo.training"} <= set(PACKAGES)


def test_type_checkers_read_the_annotations():
    assert (ROOT / "py.typed").read_bytes() == b""


def test_the_version_is_that_of_the_installation_if_there_is_one(monkeypatch):
    def version():
        names = {"__name__": "jevo.version"}
        exec(compile((ROOT / "version.py").read_text(), "jevo.version", "exec"), names)
        return names["__version__"]

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", {"jevo": "7.8.9"}.__getitem__)
    assert version() == "7.8.9"
    monkeypatch.setattr(metadata, "version", missing)
    assert version() == "0+unknown"
