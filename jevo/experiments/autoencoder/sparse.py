"""The control of a sparse champion: a rival's champion that loses as many weights, and may learn since.

Source: Han et al., "Learning both weights and connections for efficient neural networks", 2015. Fine-tuning has the
learning rate and the schedule of the training, as Renda et al., "Comparing rewinding and fine-tuning in neural network
pruning", 2020, recommend.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jevo.experiments.autoencoder.config import PRUNED
from jevo.runs import Judged, Outcome, Phases, Run
from jevo.types import Key, Member


def pruned(params: Member, shares: Sequence[float]) -> Member:
    """The params of a stack whose smallest weights are zero, in each kernel the share of it; zeros that it has count.

    Args:
        params: of a stack, `{"layer_0": {"kernel": [inputs, outputs], ...}, ...}`.
        shares: of each layer's kernel, the first layer's first; of equal weights the first go first.
    """

    def smaller(kernel: np.ndarray, share: float) -> jax.Array:
        weights = np.array(kernel)
        order = np.argsort(np.abs(weights), axis=None, kind="stable")
        weights.flat[order[: round(share * weights.size)]] = 0
        return jnp.asarray(weights)

    names = [f"layer_{depth}" for depth in range(len(shares))]
    return {
        name: {**params[name], "kernel": smaller(params[name]["kernel"], share)}
        for name, share in zip(names, shares, strict=True)
    }


@dataclass(frozen=True)
class Pruned:
    """A rival's champion, with as many zeros in each layer as the search's champion has.

    Attributes:
        rival: whose champion.
        own: whose zeros.
        judge: `(champion, folder) -> Judged`.
    """

    rival: str
    own: str
    judge: Callable[..., Judged]

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Prune, and be judged; it has cost what the rival has."""
        rival, shares = earlier[self.rival], earlier[self.own].champion.details.zeros
        champion = pruned(rival.champion.champion, shares)
        return Outcome(None, rival.budget, [self.judge(champion, run.scratch)])

    def traced(self) -> Iterator[jax.stages.Traced]:
        """It has no programs."""
        return iter(())


@dataclass(frozen=True)
class FineTuned:
    """The champion of `Pruned`, trained on, while zeros stay zero.

    Attributes:
        rival: whose champion it was.
        learning: makes the phases that begin with a champion.
        init: makes params like a champion's.
    """

    rival: str
    learning: Callable[[Member], Phases]
    init: Callable[[Key], Member]

    def compete(self, run: Run, earlier: Mapping[str, Outcome]) -> Outcome:
        """Learn, and be judged; it has cost what the rival has, and this beside."""
        found = self.learning(earlier[f"{self.rival}-{PRUNED}"].champion.champion).compete(run, earlier)
        before = earlier[self.rival].budget
        return found._replace(budget={name: round(before[name] + spent, 3) for name, spent in found.budget.items()})

    def traced(self) -> Iterator[jax.stages.Traced]:
        """The programs of its phases."""
        return self.learning(self.init(jax.random.key(0))).traced()
