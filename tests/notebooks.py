"""Run the notebooks as a reader does on a CPU, and keep what they show.

python -m tests.notebooks [NAME ...]            # MNIST is found as the experiments find it
python -m tests.notebooks --check [NAME ...]    # hold what is kept against a fresh run instead
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def source(notebook: dict[str, Any]) -> str:
    """What the outputs of a notebook were made by."""
    code = "\0".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def executed(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy with the outputs of a run in a folder, as the file keeps them."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.reads(json.dumps(notebook), as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH", "")])
    NotebookClient(node, timeout=3600, resources={"metadata": {"path": str(folder)}}).execute()
    kept = json.loads(nbformat.writes(node))
    for cell in kept["cells"]:
        cell["metadata"] = {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None)
            if output["output_type"] in ("display_data", "execute_result"):
                output["metadata"] = {}
    kept["metadata"] = {**notebook["metadata"], "jevo": {"outputs_of": source(notebook)}}
    return kept


def shown(notebook: dict[str, Any]) -> list[str]:
    """The tables of a notebook: what a second run on the same kind of machine shows, too."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return ["".join(output["data"]["text/markdown"]) for output in outputs if "text/markdown" in output.get("data", {})]


def alike(stored: str, fresh: str, within: float = 0.02) -> bool:
    """Whether two tables have the same words, and numbers that differ by rounding alone (another processor's)."""
    if NUMBER.sub("#", stored) != NUMBER.sub("#", fresh):
        return False
    pairs = zip(NUMBER.findall(stored), NUMBER.findall(fresh), strict=True)
    numbers = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return all(abs(a - b) <= within * max(1.0, abs(a), abs(b)) for a, b in numbers)


def main(argv: list[str] | None = None) -> int:
    """The command; its code is the number of notebooks that show something else than is kept."""
    # What throughput shows is the speed of the machine that runs it.
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb") if path.stem != "throughput")
    parser = argparse.ArgumentParser(prog="python -m tests.notebooks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}; unset: all")
    parser.add_argument("--check", action="store_true", help="hold what is kept against a fresh run")
    asked = parser.parse_args(argv)
    different = 0
    for name in asked.names or names:
        path = NOTEBOOKS / f"{name}.ipynb"
        stored = json.loads(path.read_text())
        with tempfile.TemporaryDirectory() as folder:
            fresh = executed(stored, Path(folder))
        if not asked.check:
            path.write_text(json.dumps(fresh, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
            print(f"{name}: kept")
            continue
        tables = list(zip(shown(stored), shown(fresh), strict=True))
        other = [pair for pair in tables if not alike(*pair)]
        different += bool(other)
        print(f"{name}: {len(tables) - len(other)} of {len(tables)} tables as kept")
        for was, now in other:
            print(was, now, sep="\n--- now ---\n")
    return different


if __name__ == "__main__":
    sys.exit(main())
