"""What a benchmark leaves: a table on the terminal, a JSON file and a plot."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from jevo.benchmark.timing import Times
from jevo.data.files import atomic_write
from jevo.plots import throughput_by_population
from jevo.runs.machine import device, versions

OWN = "jevo"
"""The name of jevo's own rows; the others are compared with it."""


def row(
    name: str, population: int, amount: float, times: Times, *, flops: float = 0.0, rate: float = 0.0, **more: Any
) -> dict[str, Any]:
    """One line of the table.

    Args:
        name: who did it.
        population: members.
        amount: of the benchmark's unit that a call does.
        times: of the call.
        flops: of a call, by the plain count of its products; 0 where none is meant.
        rate: the plain product's [FLOP/s], measured in turn with the call.
        more: further figures.
    """
    share = {"share_of_plain_matmul": flops / times.median / rate} if flops else {}
    return {
        "name": name,
        "population": population,
        "per_second": amount / times.median,
        "seconds": times._asdict(),
        **share,
        **more,
    }


def record(name: str, settings: Any, **figures: Any) -> dict[str, Any]:
    """What the JSON file of every benchmark holds.

    Args:
        name: of the benchmark.
        settings: of the benchmark, a dataclass.
        figures: what it measured.
    """
    return {
        "benchmark": name,
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()},
        **figures,
        "device": device(),
        "versions": versions(),
    }


def result(name: str, unit: str, settings: Any, rows: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """What the JSON file of a benchmark holds that has a table of rows.

    Args:
        name: of the benchmark.
        unit: what `per_second` counts.
        settings: of the benchmark, a dataclass.
        rows: from `row`.
        more: further figures.
    """
    return record(
        name,
        settings,
        unit=unit,
        rows=list(rows),
        jevo_is_faster_than=_ratios(rows),
        **more,
        precision=jax.config.values["jax_default_matmul_precision"] or "default",
    )


def show(found: Mapping[str, Any]) -> None:
    """Print the rows, and how many times as fast as each of the others jevo is."""
    where = found["device"]
    title = f"{found['benchmark']}: {found['unit']} on {where['count']} x {where['kind']} ({where['cores']} cores)"
    table = Table(title=title, title_justify="left")
    columns = {
        "": lambda row: row["name"],
        "population": lambda row: f"{row['population']:,}",
        "per second": lambda row: f"{row['per_second']:,.0f}",
        "a call, median (quartiles)": lambda row: _seconds(row["seconds"]),
        "of plain matmul": lambda row: f"{row['share_of_plain_matmul']:.2f}",
        "breeding": lambda row: f"{row['breeding_share']:.0%}",
        "compile": lambda row: f"{row['compile_s']:.1f} s",
        "memory a member": lambda row: f"{row['bytes_per_member'] / 1e3:,.1f} kB",
    }
    for name in columns:
        table.add_column(name, justify="left" if not name else "right")
    for row in found["rows"]:
        table.add_row(*(_cell(column, row) for column in columns.values()))
    console = Console(width=None if Console().is_terminal else 130)
    console.print(table)
    for rival, faster in found["jevo_is_faster_than"].items():
        console.print(f"jevo is {faster:.2f} times as fast as {rival}", highlight=False)


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `NAME.json`, and draw it, into `folder`."""
    write_json(folder, found)
    draw(folder, found)


def draw(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write `NAME.png` into `folder`: throughput against population size, and beside that of others."""
    name, where = found["benchmark"], found["device"]
    path = folder / f"{name}.png"
    title = f"{name}: median and quartiles of calls, {where['kind']}, {where['cores']} cores"
    throughput_by_population(path, found["rows"], unit=found["unit"], title=title, own=OWN)
    return path


def write_json(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `NAME.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / f"{found['benchmark']}.json", json.dumps(found, indent=2) + "\n")


def _ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """For each other one, how many times its throughput jevo's is, at the same population."""
    own = {row["population"]: row["per_second"] for row in rows if row["name"] == OWN}
    return {row["name"]: own[row["population"]] / row["per_second"] for row in rows if row["name"] != OWN}


def _cell(column: Any, row: Mapping[str, Any]) -> str:
    try:
        return column(row)
    except KeyError:
        return ""


def _seconds(times: Mapping[str, float]) -> str:
    scale, unit = (1.0, "s") if times["median"] >= 1 else (1e3, "ms") if times["median"] >= 1e-3 else (1e6, "us")
    median, lower, upper = (times[name] * scale for name in ("median", "lower", "upper"))
    return f"{median:,.3g} {unit} ({lower:,.3g}-{upper:,.3g})"
