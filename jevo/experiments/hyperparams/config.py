"""The settings of the hyperparameter experiment."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from jevo.errors import require
from jevo.runs import BreedingConfig, RunConfig

PUBLISHED = {"halving": 0, "fitness": "accuracy", "validation": None}
"""What the published searches have in common: every network is trained to its end, and the most accurate one wins."""


@dataclass(frozen=True, kw_only=True)
class Config(BreedingConfig):
    """Search over architectures and training settings; networks of different sizes train in shared programs."""

    presets: ClassVar = {
        "default": {},
        "harvey": PUBLISHED | {
            "space": "mlp", "elites": 0.4, "breeders": 0.4, "lucky": 1, "crossover": "uniform", "mutation": "redraw",
            "mutation_rate": 0.2, "novel": False, "epochs": 100, "patience": 5, "batch_size": 128,
        },
        "mkoeppel": PUBLISHED | {
            "space": "cnn", "generations": 19, "elites": 0.2, "breeders": 0.2, "lucky": 0, "crossover": "uniform",
            "mutation": "numbers", "mutation_rate": 0.1, "novel": False, "epochs": 15, "patience": 15,
            "batch_size": 300,
        },
        "pareto": {"objectives": ("score", "parameters"), "elites": 0.5, "lucky": 0},
        "smoke": {"population": 4, "generations": 1, "lucky": 0, "epochs": 1, "halving": 0},
    }  # fmt: skip
    recipes: ClassVar = {
        "default": "a genetic search that trains in rungs: all a little, the best ones on",
        "harvey": "Matt Harvey's search over MLPs, as published",
        "mkoeppel": "mkoeppel's search over CNNs, as published",
        "pareto": "for two objectives: the score, and few parameters",
        "smoke": "a run of seconds, to see that all works",
    }
    idle: ClassVar = frozenset({"checkpoint_every"})
    groups: ClassVar = {
        "training": ("epochs", "patience", "batch_size", "repeats", "chunk", "workers", "ray"),
        **BreedingConfig.groups,
    }
    common: ClassVar = BreedingConfig.common | {
        "space", "search", "halving", "control", "population", "generations", "first", "fitness", "objectives",
        "epochs", "study",
    }  # fmt: skip
    examples: ClassVar = (
        "",
        "--space cnn --data cifar10 --data-dir FOLDER",
        "--space my_space.yaml --data my.csv --label species",
        "--study sqlite:///study.db --control optuna",
    )
    free: ClassVar = RunConfig.free | {"workers", "ray", "study"}
    longer: ClassVar = "generations"
    files: ClassVar = ("genomes.jsonl", "genomes.csv")
    renamed: ClassVar = {"keep": "elites and breeders", "mutate": "mutation", "together": "chunk"}

    checkpoint_every: int = 1
    """Of no use here: every genome is on disk as soon as it is scored."""
    validation: int | float | None = 0.3
    """How many of the train examples validate, or which share of them; of data that have no validation part. The more
    networks are compared, the more of them it takes to tell which is best."""
    space: str = "recipe"
    """What can be chosen: recipe, mlp, dense, cnn, your own .yaml file, or FILE.py:NAME of a dictionary. Or
    package.module:NAME."""
    first: Path | None = None
    """Genomes to begin with: genomes.csv or genomes.jsonl of another run, or a .jsonl file of a genome a line. Of a
    run, the best of its own search, as many as the population. Its rivals have them, too."""
    search: Literal["genetic", "random", "hyperband", "brute"] = "genetic"
    """How it is searched. brute: every genome once."""
    halving: int = 3
    """Successive halving: one genome of so many goes on; 0 for none. All genomes of a generation train a little, the
    best third of them (for 3) goes on from there, three times as far, and so on to the end."""
    first_epochs: int = 1
    """With halving, epochs that a genome trains at least [epochs]."""
    control: Literal["random", "optuna"] = "random"
    """What it is compared with at as many epochs: random: random search, also with the same halving where the search
    has it; optuna: its TPE, too, and its NSGA-II, or with halving TPE with its own Hyperband pruner."""
    population: int = 20
    """Genomes of the population."""
    generations: int = 9
    """Generations after the first population [generations]."""
    breeders: int | float = 0.25
    """The best genomes, which breed: a number of them, or a share of the population."""
    elites: int | float = 0.25
    """The best genomes, which survive: a number of them, or a share of the population."""
    lucky: int = 3
    """Others that survive, drawn at random; as many, drawn anew, breed beside the best."""
    chunk: int = 0
    """Networks that train side by side in one program; 0: 1 on a CPU, 32 on a GPU or TPU."""
    crossover: Literal["uniform", "layer"] = "uniform"
    """What a child takes from any parent: each gene, or whole layers."""
    mutation: Literal["step", "numbers", "redraw"] = "step"
    """step: numbers move to a neighbouring value, other genes are drawn anew. numbers: only numbers do. redraw: one
    gene of a child is drawn anew."""
    mutation_rate: float = 0.1
    """Probability that a gene mutates; with redraw, that a child does."""
    novel: bool = True
    """A child that was trained before is mutated until it is new; otherwise it has the score that is known."""
    epochs: int = 27
    """Most epochs of training, where a genome does not say itself [epochs]."""
    patience: int = 5
    """Epochs without a better validation after which a network stops training [epochs]."""
    batch_size: int = 128
    """Train examples in a gradient step [examples]."""
    repeats: int = 1
    """Seeds that every genome is trained with; its score is their mean."""
    fitness: Literal["accuracy", "loss"] = "loss"
    """What a score is, on validation data: accuracy, of equal ones the lower loss; or minus the loss."""
    objectives: tuple[Literal["score", "parameters", "flops"], ...] = ("score",)
    """What is searched for. `score parameters`, or `score flops` (of a forward pass): also networks that are as small,
    or as fast, as can be. Genomes are ranked as NSGA-II ranks them, whose elites are 0.5, as the preset pareto has it;
    the result is a front."""
    study: str = ""
    """Also write the trials to a storage of Optuna's: sqlite:///study.db, or a journal file, study.log. Those of the
    controls, too, generation by generation; of a database the URL ($NAME in it is the environment's)."""
    workers: int = 0
    """Programs at once on a host, of which a CPU runs one while another is compiled; 0: as many as a CPU has cores, up
    to 4; 1 on a GPU or TPU."""
    ray: str = ""
    """Train on a Ray cluster: its address (auto, HOST:PORT, ray://HOST:PORT), or local for one of this machine alone.
    Every node must have jevo[ray]. It does not change a result, but for the last bits on other processors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.coordinator, "coordinator", self.coordinator, "nothing here: ray spreads genomes over hosts")
        for name in ("epochs", "patience", "batch_size", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.repeats <= 1000, "repeats", self.repeats, "at most 1,000")
        require(
            self.first is None or self.search != "brute",
            "first",
            self.first,
            "nothing with the search brute: it tries all",
        )
        require(self.halving != 1, "halving", self.halving, "0, or 2 or more: one genome of so many goes on")
        allowed = (("score",), ("score", "parameters"), ("score", "flops"))
        takes = "score, score parameters, or score flops"
        require(self.objectives in allowed, "objectives", " ".join(self.objectives), takes)
        require(self.first_epochs >= 1, "first_epochs", self.first_epochs, "at least 1")
        require(
            self.halving > 0 or self.search != "hyperband", "halving", self.halving,
            "2 or more with the search hyperband; 3 is usual",
        )  # fmt: skip
        for name in ("generations", "workers", "halving"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.mutation_rate <= 1, "mutation_rate", self.mutation_rate, "a probability between 0 and 1")
