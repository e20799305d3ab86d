"""Checkpoints and champions of real runs that are damaged, a file at a time, and shall be refused or as they were.

`python -m tests.damage` flips bits and bytes of a random file, cuts it short, empties, deletes or overwrites it.
"""

import argparse
import contextlib
import io
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from jevo.errors import InputError
from jevo.experiments import EXPERIMENTS, champion, experiment
from jevo.runs.checkpoint import Checkpoints
from jevo.runs.loop import _saved
from jevo.runs.own import Given

ALL = [name for name in EXPERIMENTS if name != "signs"]


def flip(raw, generator):
    """One bit is another."""
    place = generator.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << generator.randrange(8)]) + raw[place + 1 :]


def exchange(raw, generator):
    """One byte is another."""
    place = generator.randrange(len(raw))
    return raw[:place] + bytes([generator.randrange(256)]) + raw[place + 1 :]


DAMAGES = {
    "flip": flip,
    "exchange": exchange,
    "cut": lambda raw, generator: raw[: generator.randrange(len(raw))],
    "empty": lambda raw, generator: b"",
    "zeros": lambda raw, generator: bytes(len(raw)),
    "delete": None,
}
FREQUENT = ["flip"] * 5 + ["exchange"] * 2 + ["cut"] * 2 + ["empty", "zeros", "delete"]


def damage(folder, generator):
    """Damage one file of a folder, the larger the likelier; what was done, to which."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = generator.choices(files, [path.stat().st_size ** 0.5 + 1 for path in files])[0]
    kind, raw = generator.choice(FREQUENT), path.read_bytes()
    if DAMAGES[kind] is None:
        path.unlink()
    elif raw:
        path.write_bytes(DAMAGES[kind](raw, generator))
    return f"{kind} {path.relative_to(folder)}"


def bits(tree):
    """The bytes of every array of a pytree."""

    def raw(leaf):
        of_keys = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if of_keys else leaf).tobytes()

    return [raw(leaf) for leaf in jax.tree.leaves(tree)]


def carries(config, found):
    """`stage -> carry` of every stage of an experiment that goes in phases: its structure, shapes and types."""
    dataset, shapes = found.dataset(config), {}
    contest = found.contest(config, dataset, Given.usual(dataset))
    for contestant in contest.contestants.values():
        kept = []
        for phase in getattr(contestant, "phases", ()):
            start, data = phase.stage.programs(phase.stage.chunk).start, phase.data(kept)
            carry = jax.jit(start)(data)
            shapes[phase.stage.name] = carry
            kept.append(phase.keep(carry))
    return shapes


class Checkpointed:
    """The checkpoints of a stage, as they were saved."""

    def __init__(self, folder, carry):
        self.folder, self.like = folder, _saved(carry, 0.0)
        self.saved = {}
        for generation in Checkpoints(folder).generations():
            with tempfile.TemporaryDirectory() as other:
                shutil.copytree(folder / str(generation), Path(other) / str(generation))
                _, carry, _ = Checkpoints(Path(other)).restore(self.like)
            self.saved[generation] = bits(carry)

    def read(self, folder):
        """What becomes of reading a damaged copy."""
        try:
            generation, carry, said = Checkpoints(folder).restore(self.like)
        except InputError:
            return "refused"
        assert generation in self.saved, f"generation {generation} was never saved"
        assert bits(carry) == self.saved[generation], f"generation {generation} is not what was saved"
        assert said or generation == max(self.saved), "an older checkpoint, and not a word"
        return "an older one" if said else "as it was"


class Crowned:
    """The champion of a finished run, as it was saved, and as it answers."""

    def __init__(self, folder, scratch):
        self.folder = scratch / f"{folder.name}-kept"
        self.folder.mkdir()
        shutil.copytree(folder / "champion", self.folder / "champion")
        for name in {"result.json", "svm.skops"} & {path.name for path in folder.iterdir()}:
            shutil.copy(folder / name, self.folder)
        self.x = np.random.default_rng(0).integers(0, 16, (64, 8, 8, 1)).astype(np.uint8)
        self.said = self._answers(folder)

    def _answers(self, folder):
        found = champion(folder)[0](self.x)
        return [np.asarray(each).tobytes() for each in found if each is not None]

    def read(self, folder):
        """What becomes of asking a damaged copy."""
        try:
            said = self._answers(folder)
        except InputError:
            return "refused"
        assert said == self.said, "another answer"
        return "as it was"


def batter(sets, count, seed):
    """Damage sets so many times, and count what became of it; an AssertionError if something else was read.

    Orbax leaves tasks behind when it fails, which complain when they are collected; nobody needs to hear that.
    """
    outcomes = Counter()
    with tempfile.TemporaryDirectory(prefix="jevo-damage-") as scratch:
        for number in range(count):
            generator = random.Random(f"{seed} {number}")
            chosen = generator.choice(sets)
            copy = Path(scratch) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(chosen.folder, copy)
            what = damage(copy, generator)
            try:
                outcomes[type(chosen).__name__, chosen.read(copy)] += 1
            except BaseException as error:
                raise AssertionError(f"{chosen.folder}, seed {seed}, number {number}: {what}: {error!r}") from error
    return outcomes


def sets_of(name, folder, scratch):
    """All that can be damaged of a finished small run; copies go to a folder `scratch`."""
    found = experiment(name)
    with contextlib.redirect_stdout(io.StringIO()):
        config = found.config.from_preset("smoke", out=folder)
        shapes = carries(config, found)
    stages = [Checkpointed(folder / "checkpoints" / stage, carry) for stage, carry in shapes.items()]
    return [*stages, *[Crowned(folder, scratch)] * max(1, len(stages) // 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    with tempfile.TemporaryDirectory(prefix="jevo-runs-") as folder:
        sets = []
        for name in ALL:
            found, out = experiment(name), Path(folder) / name
            with contextlib.redirect_stdout(io.StringIO()):
                found.run(found.config.from_preset("smoke", out=out))
            sets += sets_of(name, out, Path(folder))
        for (kind, outcome), count in sorted(batter(sets, asked.count, asked.seed).items()):
            print(f"{kind}: {count} {outcome}")
    print(f"{asked.count} damages, none read as something else")


if __name__ == "__main__":
    main()
