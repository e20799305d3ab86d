"""Masks on many devices: what a generation moves between them, by the compiled program, and what it takes.

The bytes are those of the collectives in XLA's own text of the program, each counted once: they are the shapes that a
device has when the collective is done. From them follows, on paper, how a generation would scale on a TPU slice.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from jevo import devices
from jevo.benchmark import figures
from jevo.benchmark.masks import BREEDERS, Masks, flops, programs
from jevo.benchmark.timing import in_turns
from jevo.runs.processes import population_mesh
from jevo.types import Key

COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8}


@dataclass(frozen=True)
class Scaling:
    """Count what generations of masks move between devices, and time them on more and more devices."""

    populations: tuple[int, ...] = (1024, 16384)
    """Population sizes whose programs are compiled for all devices, and read."""
    per_device: int = 64
    """Members of each device in what is timed, on 1, 2, 4, ... devices."""
    images: int = 2000
    """Examples that score a generation."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    mates: int = 2
    """Parents of each child."""
    chips: tuple[int, ...] = (8, 64, 256)
    """Chips of the slice on paper."""
    chip_flops_per_s: float = 197e12
    """Its peak; the default is what the maker says of a TPU v5e, in bfloat16 [FLOP/s]."""
    chip_bytes_per_s: float = 200e9
    """What a chip receives from the others; the default is what the maker says of a TPU v5e [bytes/s]."""
    share: float = 0.4
    """The share of the peak that scoring is taken to reach on paper: not measured."""
    budget_s: float = 60.0
    """Seconds of timed calls."""
    out: Path = Path("runs/benchmark")
    """Folder for the result as JSON."""


def measure(settings: Scaling) -> dict[str, Any]:
    """Bytes of collectives, seconds of a generation on more and more devices, and the paper."""
    there, genome = len(jax.devices()), _genome_bytes(settings)
    counted = []
    for members in settings.populations:
        _, generation = _compiled(settings, members, population_mesh(0))
        found = [
            {"kind": kind, "shape": shape, "bytes": size}
            for kind, shape, size in collectives(generation.as_text() or "")
        ]
        counted.append(
            {
                "population": members,
                "devices": there,
                "collectives": found,
                "bytes": sum(each["bytes"] for each in found),
                "population_bytes": members * genome,
                "parents_bytes": members * settings.mates * genome,
            }
        )
    counts = [2**k for k in range(there.bit_length()) if 2**k <= there]
    times = in_turns({str(count): _call(settings, count) for count in counts}, settings.budget_s)
    timed = [
        {
            "devices": count,
            "population": count * settings.per_device,
            "seconds": times[str(count)]._asdict(),
            "efficiency": times["1"].median / times[str(count)].median,
        }
        for count in counts
    ]
    paper = [on_paper(settings, chips) for chips in settings.chips]
    return figures.record("scaling", settings, counted=counted, timed=timed, paper=paper)


def collectives(text: str) -> Iterator[tuple[str, str, int]]:
    """`(kind, shape, bytes)` of every collective in the text of a compiled program."""
    kinds = "|".join(COLLECTIVES)
    for shapes, kind in re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", text):
        size = 0
        for dtype, dimensions in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes):
            size += BYTES[dtype] * math.prod(int(n) for n in dimensions.split(",") if n)
        yield kind, re.sub(r"\{[^}]*\}", "", shapes), size


def on_paper(settings: Scaling, chips: int) -> dict[str, float]:
    """Seconds of a generation of `per_device` members a chip: scoring, after those who breed were gathered.

    They are gathered by a sum over all chips, in a ring of which each chip receives every byte twice.
    """
    members = settings.per_device * chips
    scoring = flops(_masks(settings), settings.per_device) / (settings.share * settings.chip_flops_per_s)
    received = 2 * BREEDERS * members * _genome_bytes(settings) * (chips - 1) / chips
    gathering = received / settings.chip_bytes_per_s
    return {
        "chips": chips,
        "population": members,
        "scoring_s": scoring,
        "gathering_s": gathering,
        "efficiency": scoring / (scoring + gathering),
    }


def _masks(settings: Scaling) -> Masks:
    return Masks(images=settings.images, sizes=settings.sizes, mates=settings.mates)


def _genome_bytes(settings: Scaling) -> int:
    start = programs(_masks(settings), 1, jax.random.key(0)).start
    genomes = jax.eval_shape(start, *_arguments(settings)).population
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(genomes))


def _arguments(settings: Scaling) -> tuple[Key, jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """A key, and the shapes of the examples."""
    x = jax.ShapeDtypeStruct((settings.images, settings.sizes[0]), "float32")
    return jax.random.key(1), x, jax.ShapeDtypeStruct((settings.images,), "int32")


def _compiled(settings: Scaling, members: int, mesh: Mesh | None) -> tuple[jax.stages.Compiled, jax.stages.Compiled]:
    """The first population's program and a generation's, for the devices of a mesh."""
    _, _, start, generation = programs(_masks(settings), members, jax.random.key(0))
    everywhere = devices.replicated(mesh)
    key, x, y = _arguments(settings)
    with devices.spread(mesh):
        first = jax.jit(start, in_shardings=everywhere).lower(key, x, y).compile()
        place = first.output_shardings
        following = (
            jax.jit(generation, in_shardings=(everywhere, place, everywhere, everywhere), out_shardings=place)
            .lower(key, jax.eval_shape(start, key, x, y), x, y)
            .compile()
        )
    return first, following


def _call(settings: Scaling, count: int) -> Callable[[], Any]:
    """A call of a generation on so many devices."""
    mesh = population_mesh(count)
    first, generation = _compiled(settings, count * settings.per_device, mesh)
    key, x, y = _arguments(settings)
    examples = jax.random.normal(key, x.shape), jax.random.randint(key, y.shape, 0, settings.sizes[-1])
    key, *examples = jax.device_put((key, *examples), devices.replicated(mesh))
    state = first(key, *examples)
    return lambda: generation(key, state, *examples)


def show(result: dict[str, Any]) -> None:
    """Print what moves, what was timed, and the paper."""
    console = Console()
    table = Table("population", "devices", "collectives", "bytes", "of all genomes", "of all parents", box=None)
    for each in result["counted"]:
        moved = each["bytes"]
        share = [f"{moved / each[name]:.3f}" for name in ("population_bytes", "parents_bytes")]
        table.add_row(
            f"{each['population']:,}", str(each["devices"]), str(len(each["collectives"])), f"{moved:,}", *share
        )
    console.print(table)
    table = Table("devices", "population", "seconds", "efficiency", box=None)
    for each in result["timed"]:
        seconds = f"{each['seconds']['median']:.4f}"
        table.add_row(str(each["devices"]), f"{each['population']:,}", seconds, f"{each['efficiency']:.2f}")
    console.print(table)
    table = Table("chips, on paper", "population", "scoring ms", "gathering ms", "efficiency", box=None)
    for each in result["paper"]:
        milliseconds = [f"{each[name] * 1e3:.3f}" for name in ("scoring_s", "gathering_s")]
        table.add_row(str(each["chips"]), f"{each['population']:,}", *milliseconds, f"{each['efficiency']:.2f}")
    console.print(table)
