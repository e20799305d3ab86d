"""A picture and a film of masks that evolve: all members of a population, at every generation of one run.

    python experiments/masks/film.py --out experiments/masks

The run is that of `python -m jevo.experiments.masks --preset genetic --generations 160` on the bundled digits, with its
control; here each generation is looked at, where a run keeps its best alone. Writes `population.png` and `film.gif`.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jevo import bits, plots
from jevo.experiments.masks import EXPERIMENT, Config
from jevo.networks import masked
from jevo.runs import Contest, load_dataset
from jevo.runs.own import Given
from jevo.training import accuracy, evaluate
from jevo.training.criterion import classification

TITLE = """100 masks over one random network learn to read digits; no weight ever changes
a tile: what one hidden unit sees; white: kept by all masks, black: by none"""
LABEL = "validation accuracy of each member"
NAMES = {"search": "masks", "random_search": "random search (control)"}
COLOURS, FRAME_MS, LAST_MS = 64, 110, 2500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder to write into")
    parser.add_argument("--preset", default="genetic", help="of the mask experiment, one with a population")
    parser.add_argument("--generations", type=int, default=160, help="10, 20, 40, 80, ...")
    parser.add_argument("--seed", type=int, default=0, help="of the run")
    given = parser.parse_args()
    config = Config.from_preset(given.preset, generations=given.generations, seed=given.seed)
    shares, scores = watch(config)
    marks = [0, *(10 * 2**i for i in range(16) if 10 * 2**i <= given.generations)]
    pictures = {mark: plots.tiles(shares[mark, :16], columns=4) for mark in marks}
    plots.snapshots(given.out / "population.png", pictures, scores, LABEL, TITLE)
    film(given.out / "film.gif", shares, scores, marks)


def watch(config: Config) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Both searches, looked at in every generation.

    Returns:
        What share of the population keeps each weight of the first layer, `[generations + 1, units, height, width]`;
        and by name the validation accuracy of every member, `[generations + 1, members]`.
    """
    dataset = load_dataset(config)
    contest = EXPERIMENT.contest(config, dataset, Given(classification(len(dataset.classes))))
    found = {NAMES[name]: _watched(config, contest, name) for name in NAMES}
    shares, _ = found[NAMES["search"]]
    height, width, _ = dataset.train.x.shape[1:]
    shares = shares.transpose(0, 2, 1).reshape(len(shares), -1, height, width)
    return shares, {name: accuracies for name, (_, accuracies) in found.items()}


def _watched(config: Config, contest: Contest, name: str) -> tuple[np.ndarray, np.ndarray]:
    phase: Any = contest.contestants[name]
    (phase,) = phase.phases
    data, (start, step) = phase.data([]), phase.stage.programs(phase.stage.chunk)
    task = contest.task
    x, y = task.inputs(task.validation.x), task.validation.y

    def look(population: Any, data: Any) -> tuple[jax.Array, jax.Array]:
        net = masked(contest.network, data.weights, config.mask)
        first = jax.tree.leaves(population, is_leaf=bits.is_bits)[0]
        share = jax.vmap(bits.unpack)(first).mean(axis=0, dtype=jnp.float32)
        return share, evaluate(lambda genome: accuracy(net.apply(genome, x), y), population, phase.stage.chunk)

    @jax.jit
    def run(data: Any) -> tuple[jax.Array, jax.Array]:
        def generation(carry: Any, _: None) -> tuple[Any, tuple[jax.Array, jax.Array]]:
            carry, _ = step(carry, data)
            return carry, look(carry.state.population, data)

        first = start(data)
        _, rest = jax.lax.scan(generation, first, length=config.generations)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), look(first.state.population, data), rest)

    shares, accuracies = run(data)
    return np.asarray(shares), np.asarray(accuracies)


def film(path: Path, shares: np.ndarray, scores: dict[str, np.ndarray], marks: list[int]) -> None:
    """A frame for every generation up to the first mark, then as many for each doubling."""
    later = [round(marks[1] * 2 ** (i / marks[1])) for i in range(marks[1] * (len(marks) - 2) + 1)]
    with tempfile.TemporaryDirectory() as folder:
        frames = []
        for g in dict.fromkeys([*range(marks[1]), *later]):
            file = Path(folder) / f"{g}.png"
            so_far = {name: values[: g + 1] for name, values in scores.items()}
            plots.frame(file, plots.tiles(shares[g, :36], columns=6), so_far, LABEL, f"generation {g}", marks)
            frames.append(Image.open(file).convert("RGB"))
    # One palette for all: frames that differ in little are small.
    both = Image.new("RGB", (2 * frames[0].width, frames[0].height))
    both.paste(frames[len(frames) // 4])  # All greys are in it, ...
    both.paste(frames[-1], (frames[0].width, 0))  # ... and here all other colours.
    palette = both.quantize(COLOURS)
    first, *rest = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    durations = [FRAME_MS] * len(rest) + [LAST_MS]
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, optimize=True)


if __name__ == "__main__":
    main()
