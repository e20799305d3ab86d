"""The champion of a run: what is saved of it, and how it answers afterwards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import population as pop
from jevo.data.targets import Targets
from jevo.data.task import Task, normalization_like, normalize
from jevo.data.values import Values
from jevo.errors import InputError, require
from jevo.networks import Network
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.portable import Portable
from jevo.training.scoring import in_rows, predict
from jevo.types import Key, Member, Population


class Answers(NamedTuple):
    """What the champion of a finished run says of examples.

    Attributes:
        classes: int `[n]`, the index of each one's class, if it tells.
        probabilities: float32 `[n, classes]`, if it has them.
        values: float64 `[n, targets]`, its estimates in the numbers of the source, of a regression.
        reconstructions: float32 `[n, ...]` as the examples are, if it makes them.
    """

    classes: np.ndarray | None
    probabilities: np.ndarray | None = None
    values: np.ndarray | None = None
    reconstructions: np.ndarray | None = None


Champion = Callable[[np.ndarray], Answers]
"""The champion of a finished run: it takes examples `[n, ...]` as the source of its data has them."""


class Restored(NamedTuple):
    """The arrays of a saved champion.

    Attributes:
        params: of its network.
        mean, scale: of its inputs, as `Task` has them.
    """

    params: Member
    mean: jax.Array
    scale: jax.Array

    def inputs(self, x: jax.Array) -> jax.Array:
        """Examples `[n, ...]` as the network takes them."""
        return normalize(x, self.mean, self.scale)


class Saved(NamedTuple):
    """A finished run, as its champion is read from it.

    Attributes:
        folder: of the run.
        config: its settings.
        result: what its `result.json` holds.
        front: which member of its front stands for the champion, counted from 1; None for the champion itself.
        network: the user's own, if it is of one.
    """

    folder: Path
    config: Any
    result: Mapping[str, Any]
    front: int | None = None
    network: Network | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example."""
        return tuple(self.result["data"]["shape"])

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.result["data"]["classes"])

    @property
    def targets(self) -> Targets | None:
        """What its network says of a regression.

        Raises:
            ValueError: if the result does not tell.
        """
        found = self.result["data"].get("targets")
        return None if found is None else Targets.from_json(found)

    @property
    def kinds(self) -> str:
        """Its classes or targets, in words."""
        targets = self.targets
        if targets is None:
            return f"classes {', '.join(self.result['data']['classes'])}"
        return f"targets {', '.join(targets.names)}"

    @property
    def outputs(self) -> int:
        """That its network makes of an example."""
        targets = self.targets
        usual = self.classes if targets is None else len(targets.names)
        return self.result.get("outputs", usual)

    @property
    def estimates(self) -> list[int]:
        """Which of them are a class's logit, or the estimate of a target."""
        return self.result.get("estimates", list(range(self.outputs)))

    @property
    def whole(self) -> bool:
        """Whether these are all outputs, in their order."""
        return self.estimates == list(range(self.outputs))

    @property
    def values(self) -> Values:
        """What the numbers of its examples are."""
        return Values.from_json(self.result["data"]["values"], self.shape)

    @property
    def on_front(self) -> Mapping[str, Any] | None:
        """What the result says of the member of the front that stands for the champion; None for the champion itself.

        Raises:
            InputError: if there is no such front, or no such member.
        """
        if self.front is None:
            return None
        points = self.result.get("front", ())
        if not points:
            raise InputError(f"{self.folder} has no front, as a run of more than one objective has; leave front out")
        takes = f"1 to {len(points)}, a member of the front of {self.folder}"
        require(1 <= self.front <= len(points), "front", self.front, takes)
        return points[self.front - 1]

    def arrays(self, init: Callable[[Key], Member], varying: str | None = None, apart: bool = False) -> Restored:
        """The arrays that `save_champion` saved, and `save_front` if a member of the front is wanted.

        Args:
            init: makes params of the champion's structure, which is all that is asked of it.
            varying: the entry of the params that differs along the front; None if all of them do.
            apart: whether members of the front differ in their structure, each saved by `save_apart`.

        Raises:
            InputError: if they are not there, or damaged, or of another structure; or if there is no such front.
        """
        like = jax.eval_shape(lambda: {"params": init(jax.random.key(0)), **normalization_like(self.shape)})
        one = self.on_front
        if one and apart:
            return Restored(**load_arrays(self.folder / "front" / str(self.front), like))
        saved = Restored(**load_arrays(self.folder / "champion", like))
        if self.front is None:
            return saved
        size, params = len(self.result["front"]), like["params"]
        differs = params if varying is None else {varying: params[varying]}
        members = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), differs)
        chosen = pop.take(load_arrays(self.folder / "front", members), self.front - 1)
        return saved._replace(params={**saved.params, **chosen})

    def answering(self, network: Network, varying: str | None = None, apart: bool = False) -> Champion:
        """The champion as one that gives class probabilities or targets, `network` being what it is the params of.

        Args:
            network: of which `varying` is the entry of the params that differs along a front.
            apart: as of `arrays`.
        """
        saved = self.arrays(network.init, varying, apart)

        def logits(x: jax.Array) -> jax.Array:
            return network.apply(saved.params, saved.inputs(x))

        targets, made = self.targets, jax.eval_shape(logits, jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)).shape
        if made != (1, self.outputs):
            raise ValueError(f"the network makes {made} of an example, of {self.outputs} outputs")

        def picked(x: jax.Array) -> jax.Array:
            # Where all are, nothing is added to the program: bits stay as they were judged.
            return logits(x) if self.whole else logits(x)[:, jnp.array(self.estimates)]

        def answer(x: np.ndarray) -> Answers:
            if targets is not None:
                return Answers(None, values=targets.source(in_rows(picked, x)))
            probabilities = predict(picked, x)
            return Answers(probabilities.argmax(axis=1), probabilities)

        return answer

    def portable(self, found: Restored, params: Member, code: str, gain: jax.Array | None = None) -> Portable:
        """The champion for whoever has no jevo.

        Args:
            found: as it was saved.
            params: plain arrays, as they are computed with.
            code: lines of Python that compute what it answers.
            gain: what its outputs are multiplied by.
        """
        return Portable(params, found.mean, found.scale, self.values.offset, gain, code)


def save_champion(folder: Path, params: Member, task: Task) -> None:
    """Save a champion's arrays in the folder of its run."""
    save_arrays(folder / "champion", {"params": params, "mean": task.mean, "scale": task.scale})


def save_apart(folder: Path, number: int, params: Member, task: Task) -> None:
    """Save a member of a front, counted from 1, in the folder of its run, where members differ in their structure."""
    save_arrays(folder / "front" / str(number), {"params": params, "mean": task.mean, "scale": task.scale})


def save_front(folder: Path, members: Population) -> None:
    """Save the members of a front in the folder of their run: params, or the entries in which they differ."""
    save_arrays(folder / "front", members)
