"""The settings of the weights experiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jevo.errors import require
from jevo.experiments.forward import ForwardConfig


@dataclass(frozen=True, kw_only=True)
class Config(ForwardConfig):
    """Train a network's weights without a derivative, against random search at equal evaluations."""

    presets: ClassVar = {
        "default": {},
        "strategy": {
            "search": "strategy", "population": 256, "generations": 500, "learning_rate": 0.03, "noise": 0.02,
        },
        "smoke": {
            "population": 8, "generations": 6, "images": 100, "hidden": (8,), "validate_every": 2,
            "checkpoint_every": 2, "reference_steps": 100,
        },
    }  # fmt: skip

    recipes: ClassVar = {
        "default": "node perturbation: one network, and noise on what each of its layers adds up",
        "strategy": "an evolution strategy of low rank: fitness is all that it sees",
        "smoke": "a run of seconds, to see that all works",
    }
    idle: ClassVar = frozenset({"breeders", "parents"})
    common: ClassVar = ForwardConfig.common | {"noise", "rank"}
    examples: ClassVar = (
        "",
        "--data mnist --data-dir FOLDER --hidden 128 128 --generations 5000",
        "--data my.csv --label price --goal regression",
    )

    search: Literal["perturbation", "strategy"] = "perturbation"
    """How weights are sought. perturbation: node perturbation, which takes no derivative, but reads the fitness of each
    example and what each layer adds up; strategy: OpenAI's evolution strategy with changes of low rank, which sees no
    more than each member's fitness, and has a preset of its name."""
    population: int = 20
    """Members, about the one network that learns, in pairs of opposite noise."""
    bias: bool = True
    """Whether layers have biases."""
    noise: float = 0.1
    """Standard deviation of the noise: of perturbation on a layer's outputs, as a share of their root mean square; of a
    strategy on each weight."""
    rank: int = 1
    """Of a strategy: rank of a member's change to a layer's weights."""
    learning_rate: float = 3e-3
    """Adam's at first."""

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect."""
        takes = "effect only with --search strategy (see --preset strategy)"
        return {**super().unread, **({} if self.search == "strategy" else {"rank": takes})}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.population % 2 == 0, "population", self.population, "an even number: members are pairs")
        require(0 < self.noise <= 10, "noise", self.noise, "a number above 0, up to 10")
        require(1 <= self.rank <= 1000, "rank", self.rank, "1 to 1,000")
        require(0 < self.learning_rate <= 1e3, "learning_rate", self.learning_rate, "a number from 0 to 1,000")
