"""Settings: one frozen dataclass an experiment, whose fields are its command line, its YAML and its record."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np

from jevo.errors import InputError, require, suggestion
from jevo.genetics import number_of
from jevo.runs.own import GOALS, is_own
from jevo.runs.processes import AUTO

MAX_LAYERS, MAX_WIDTH = 100, 1_000_000
"""Of a network that settings describe: XLA's own counts overflow beyond, and end the process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every experiment's settings begin with."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    """For each preset's name, the settings in which it differs from the defaults. `smoke` is a run of seconds."""
    free: ClassVar[frozenset[str]] = frozenset(
        {"out", "data_dir", "config", "fresh", "checkpoint_every", "compile_cache", "log"}
        | {"devices", "coordinator", "processes", "process_id"}
    )
    """Settings that may differ when a run goes on: none of them changes its result."""
    longer: ClassVar[str] = ""
    """A setting that may be greater when a run goes on, even after its end: how many generations, say."""
    files: ClassVar[tuple[str, ...]] = ()
    """Files that a run of this experiment writes beside those of every run."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Settings of earlier versions, and what they are called now."""
    idle: ClassVar[frozenset[str]] = frozenset()
    """Settings that this experiment has no use for: its help does not show them."""
    recipes: ClassVar[Mapping[str, str]] = {}
    """What each preset is, for the help."""
    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        "data": ("data", "label", "header", "validation", "goal", "data_dir"),
        "run": (
            "out", "seed", "fresh", "config", "log", "precision", "checkpoint_every", "devices", "coordinator",
            "processes", "process_id", "compile_cache",
        ),
    }  # fmt: skip
    """Settings by the part of a run that they are of, for the help; those of none are of its search."""
    common: ClassVar[frozenset[str]] = frozenset({"data", "label", "data_dir", "goal", "out", "seed", "fresh"})
    """Settings that a short help shows: what most users set."""
    examples: ClassVar[Sequence[str]] = ("",)
    """Command lines, without the command."""

    data: str = "digits"
    """digits (bundled), mnist, fashion_mnist, cifar10, a slice such as cifar10[:20000], or your own .npz, .csv or
    .parquet file."""
    label: str = ""
    """Label column of a .csv or .parquet file. By its name, or its number from 0 (-1 is the last). Unset: the last."""
    header: bool = True
    """Whether the first line of a .csv file names the columns."""
    validation: int | float | None = None
    """How many of the train examples validate, or which share of them; of data that have no validation part. Unset: a
    tenth, and at most 5,000 images."""
    goal: str = "classification"
    """What labels are for: classification, regression, or a task of your own. Regression is of real numbers (of several
    columns: label a,b,c); your own is FILE.py:NAME or package.module:NAME, a jevo.training.Goal, or a function that
    makes one."""
    data_dir: Path | None = None
    """Folder of original data files, only ever read. Unset: the environment's JEVO_DATA_DIR, else a download."""
    preset: str = "default"
    """Named recipe to start from; other settings override it."""
    config: Path | None = None
    """YAML file of settings; the command line overrides it."""
    out: Path | None = None
    """Folder of the run; a run that is there goes on. Unset: runs/EXPERIMENT-DATA-PRESET-seedN."""
    seed: int = 0
    """Seed of every random number of the run [integer from 0, below 2^32]."""
    fresh: bool = False
    """Start over; what an earlier run left in the folder is deleted."""
    precision: Literal["auto", "float32", "tensorfloat32", "bfloat16"] = "auto"
    """Precision of matrix products. auto: float32 on a CPU, tensorfloat32 on a GPU, bfloat16 on a TPU."""
    checkpoint_every: int = 50
    """Generations from one checkpoint to the next: what a crash can lose [generations]."""
    devices: int = 0
    """Devices that the population is spread over; 0 for all there are. Their number does not change a result, but for
    the last bits on a GPU or TPU."""
    coordinator: str = ""
    """For a run of several processes, each started with the same settings: HOST:PORT of process 0, or auto where Slurm,
    Open MPI, GKE or Cloud TPU say who takes part. Their --out must be a folder that all of them see."""
    processes: int | None = None
    """How many processes there are. Unset: as the environment says."""
    process_id: int | None = None
    """Which of them this one is, from 0. Unset: as the environment says."""
    compile_cache: bool = True
    """Keep compiled programs in the cache folder, so that a later run need not compile them again."""

    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Also tell these of the run, as it goes: the numbers of its metrics files, and its pictures. Each is an extra of
    jevo's, by its name; where it keeps what it is told is for its own environment variables to say."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _require_usable(field.name, getattr(self, field.name))
        # JAX makes keys of 32 bits: a greater seed would be another one's.
        last = 2**32 - getattr(self, "repeats", 1)
        require(0 <= self.seed <= last, "seed", self.seed, f"a whole number from 0 to {last:,}")
        for name, takes in [*dict.fromkeys(sorted(self.idle), "nothing here").items(), *self.unread.items()]:
            self.require_unset(name, takes)
        require(self.goal in ("classification", "regression") or is_own(self.goal), "goal", self.goal, GOALS)
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1 generation")
        _, _, port = self.coordinator.rpartition(":")
        require(
            self.coordinator in ("", AUTO) or port.isdecimal(),
            "coordinator", self.coordinator, "HOST:PORT of process 0, or auto",
        )  # fmt: skip
        for name in ("processes", "process_id"):
            value = getattr(self, name)
            require(value is None or self.coordinator != "", name, value, "a coordinator beside it")
        require(self.processes is None or self.processes >= 1, "processes", self.processes, "at least 1")
        require(
            self.process_id is None or 0 <= self.process_id < (self.processes or sys.maxsize),
            "process_id", self.process_id, "0 or more, and less than processes",
        )  # fmt: skip

    @classmethod
    def from_preset(cls, preset: str, **settings: Any) -> Self:
        """The settings of a preset, with some of them changed.

        Raises:
            InputError: for an unknown preset, or an impossible value.
        """
        if preset not in cls.presets:
            raise InputError(f"unknown preset {preset[:60]!r}; {suggestion(preset[:60], cls.presets)}")
        return cls(**{**cls.presets[preset], **settings, "preset": preset})

    @property
    def scheduled(self) -> str:
        """What of these settings is planned over the whole run, so that it cannot be made longer: words, or nothing."""
        return ""

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect, which must be as they are by default, or as the preset has
        them; and what they take, for the message."""
        return {}

    def require_no_classes(self, names: Sequence[str]) -> None:
        """Raise an InputError for settings that are of classes, whatever a preset says, as the goal is of none."""
        for name in names:
            value, usual = getattr(self, name), getattr(type(self), name)
            require(value == usual, name, value, f"its default, {usual}: it is of classes, and the goal is {self.goal}")

    def require_unset(self, name: str, takes: str) -> None:
        """Raise an InputError for a setting unless it is as it is by default, or as the preset has it."""
        value, usual = getattr(self, name), getattr(type(self), name)
        require(value in (usual, self.presets.get(self.preset, {}).get(name, usual)), name, value, takes)


def _require_usable(name: str, value: Any) -> None:
    """Raise an InputError for a value that no setting of its type can have."""
    if isinstance(value, tuple):
        require(len(value) <= MAX_LAYERS, name, value, f"at most {MAX_LAYERS} values")
        for each in value:
            require(not isinstance(each, int) or each <= MAX_WIDTH, name, each, f"widths up to {MAX_WIDTH:,}")
            if isinstance(each, float):
                _require_usable(name, each)
    if isinstance(value, float):
        tiny, most = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
        # Beyond these float32 has 0 and inf.
        takes = f"a number of size {tiny:.3g} to {most:.3g}, or 0"
        require(value == 0 or tiny <= abs(value) <= most, name, value, takes)
    elif isinstance(value, int) and name != "seed":
        require(abs(value) < 2**31, name, value, f"a number below {2**31:,}")
    elif isinstance(value, str | Path):
        require("\0" not in str(value), name, repr(str(value)), "text without NUL characters")


Config = TypeVar("Config", bound=RunConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BreedingConfig(RunConfig):
    """How a population breeds, in the words of `genetics.genetic`: the same in every experiment."""

    least_population: ClassVar[int] = 2

    population: int = 100
    """Members of the population."""
    breeders: int | float = 0.25
    """The best members, which breed: a number of them (17), or a share of the population (0.25; 1.0 for all)."""
    parents: int = 2
    """Parents of each child. A crossover that takes each gene, neuron or layer from any of them wants 2, 4, 8, ..."""
    elites: int | float = 2
    """The best members, which survive: a number of them, or a share of the population."""
    lucky: int = 0
    """Others that survive, drawn at random; under truncation as many, drawn anew, breed beside the best."""
    chunk: int = 0
    """Members bred, scored or trained at once, at most; 0 for what suits the device, and fewer where its memory is
    short. On a CPU it never changes a result."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.least_population
        takes = f"at least {least}" + (": a member mates with another" if least > 1 else "")
        require(self.population >= least, "population", self.population, takes)
        for name, least in (("breeders", 1), ("elites", 0)):
            members = getattr(self, name)
            require(
                0 < members <= 1 if isinstance(members, float) else least <= members <= self.population,
                name, members,
                f"a number from {least} to the population of {self.population}, or a share (as 0.25) up to 1.0",
            )  # fmt: skip
        require(self.chunk >= 0, "chunk", self.chunk, "a number of members, or 0")
        require(self.lucky >= 0, "lucky", self.lucky, "a number of members, or 0")
        require(
            self.survivors < self.population,
            "elites + lucky", self.survivors, f"0 to {self.population - 1}, fewer than the population",
        )  # fmt: skip
        crossover, one_of = getattr(self, "crossover", ""), ("uniform", "neuron", "layer")
        takes = {"one_point": "2", **dict.fromkeys(one_of, "2, 4, 8, 16, ...")}.get(crossover, "at least 2")
        fits = self.parents >= 2 and (crossover not in one_of or self.parents.bit_count() == 1)
        require(fits and (crossover != "one_point" or self.parents == 2), "parents", self.parents, takes)

    @property
    def survivors(self) -> int:
        """Members that stay from one generation to the next."""
        return number_of(self.elites, self.population) + self.lucky
