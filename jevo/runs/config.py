"""Settings: one frozen dataclass an experiment, from defaults, a preset, a YAML file and the command line.

Each later source overrides the earlier ones, and each value passes the same checks wherever it comes from.
"""

import contextlib
import dataclasses
import difflib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import tyro
import yaml

from jevo.runs.processes import AUTO
from jevo.types import InputError

HIDDEN_FROM_RESUME = (
    "out", "data_dir", "config", "fresh", "checkpoint_every", "workers", "compile_cache", "devices", "coordinator",
    "processes", "process_id", "ray",
)  # fmt: skip
"""Settings that may differ when a run goes on: none of them changes its result."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every experiment's settings begin with."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    """For each preset's name, the settings in which it differs from the defaults."""

    data: str = "digits"
    """Data set: digits (bundled), mnist, fashion_mnist, cifar10, a slice such as cifar10[:20000], or the path of
    your own .npz or .csv file."""
    data_dir: Path | None = None
    """Folder of original data files, only ever read. Unset: the environment's JEVO_DATA_DIR, else a download."""
    preset: str = "default"
    """Named recipe to start from; other settings override it."""
    config: Path | None = None
    """YAML file of settings; the command line overrides it."""
    out: Path | None = None
    """Folder of the run. Unset: runs/EXPERIMENT-DATA-PRESET-seedN."""
    seed: int = 0
    """Seed of every random number of the run [integer >= 0]."""
    fresh: bool = False
    """Start over, deleting what an earlier run left in the folder."""
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

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "an integer >= 0")
        require(self.checkpoint_every >= 1, "checkpoint_every", self.checkpoint_every, "at least 1 generation")
        _, _, port = self.coordinator.rpartition(":")
        require(
            self.coordinator in ("", AUTO) or port.isdecimal(),
            "coordinator", self.coordinator, "HOST:PORT of process 0, or auto",
        )  # fmt: skip
        for name in ("processes", "process_id"):
            value = getattr(self, name)
            require(value is None or self.coordinator != "", name, value, "a --coordinator beside it")
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
            raise InputError(f"unknown preset {preset!r}; {suggestion(preset, cls.presets)}")
        return cls(**{**cls.presets[preset], **settings, "preset": preset})


Config = TypeVar("Config", bound=RunConfig)
Settings = TypeVar("Settings")


def require(holds: bool, setting: str, value: Any, takes: str) -> None:
    """Raise an InputError that names the setting, what it got and what it takes, unless `holds`."""
    if not holds:
        raise InputError(f"setting {setting} is {value}, but takes {takes}")


def from_command_line(kind: type[Config], arguments: Sequence[str] | None = None) -> Config:
    """The settings that the command line asks for.

    Args:
        kind: the experiment's dataclass.
        arguments: without the program's name; by default the process's own.

    Raises:
        InputError: in one line, for an unknown setting or an impossible value.
        SystemExit: after --help.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    file = _option(arguments, "--config")
    chosen = read_yaml(Path(file)) if file else {}
    preset = _option(arguments, "--preset") or chosen.get("preset", "default")
    default = kind.from_preset(preset)
    if file:
        default = parse(kind, _as_flags(kind, chosen, file), default, f"{file}: ")
    return parse(kind, arguments, default)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, which holds `name: value` lines and nothing that runs."""
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"the config file {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise InputError(f"the config file {path} should hold 'setting: value' lines, not {type(settings).__name__}")
    return settings


def resolved(config: RunConfig) -> dict[str, Any]:
    """Every setting as YAML and JSON can hold it."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def from_settings(kind: type[Config], settings: Mapping[str, Any], source: str) -> Config:
    """The settings that `resolved` wrote, or a part of them over the defaults, checked anew.

    Args:
        kind: the experiment's dataclass.
        settings: by name, as YAML and JSON hold them.
        source: where they come from, for the message.

    Raises:
        InputError: for an unknown setting or an impossible value.
    """
    return parse(kind, _as_flags(kind, settings, source), kind(), f"{source}: ")


def as_arguments(config: RunConfig) -> list[str]:
    """The command line that gives these settings."""
    given = resolved(type(config).from_preset(config.preset))
    changed = {name: value for name, value in resolved(config).items() if value != given[name] and name != "fresh"}
    if config.preset != "default":
        changed = {"preset": config.preset, **changed}
    return _as_flags(type(config), changed, "settings")


def differences(old: Mapping[str, Any], new: RunConfig) -> list[str]:
    """The settings in which a stored run differs from this one, as 'name: old -> new', or none."""
    settings = resolved(new)
    names = [name for name in {**old, **settings} if name not in HIDDEN_FROM_RESUME]
    absent = "(absent)"
    return [
        f"{name}: {old.get(name, absent)} -> {settings.get(name, absent)}"
        for name in names
        if old.get(name, absent) != settings.get(name, absent)
    ]


def suggestion(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Words for an unknown name: the nearest known one if there is one near, and all of them."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"


def parse(
    kind: type[Settings], arguments: Sequence[str], default: Settings | None = None, source: str = ""
) -> Settings:
    """A dataclass from command-line arguments.

    Args:
        kind: the dataclass; the strings below its fields are its help.
        arguments: without the program's name.
        default: where arguments say nothing; a field of `kind` without a default needs it or an argument.
        source: where the arguments come from, to begin the message with.

    Raises:
        InputError: in one line, if they do not fit.
        SystemExit: after --help.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            if default is None:
                return tyro.cli(kind, args=list(arguments))
            return tyro.cli(kind, args=list(arguments), default=default)
    except SystemExit as stop:
        if not stop.code:
            raise
    raise InputError(source + _one_line(complaint.getvalue()))


def _one_line(box: str) -> str:
    """A boxed complaint as one line: its first paragraph, and the first suggestion if it has one."""
    rows = [line.strip().strip("│╭╮╰╯").strip() for line in box.splitlines()[1:]]
    paragraphs: list[list[str]] = [[]]
    for row in rows:
        if set(row) <= {"─"}:
            paragraphs.append([])
        else:
            paragraphs[-1].append(row)
    line = " ".join(paragraphs[0])
    for title, *rest in filter(None, paragraphs[1:]):
        if title.startswith("Perhaps you meant") and rest:
            line += f"; did you mean {rest[0].split()[0]}?"
        if title.startswith("Argument helptext") and rest:
            line += f"; it takes {rest[0]}"
    return line + " (--help lists every setting)"


def _option(arguments: Sequence[str], name: str) -> str | None:
    """The value of `name VALUE` or `name=VALUE`, the last one given."""
    found = None
    for i, argument in enumerate(arguments):
        if argument == name and i + 1 < len(arguments):
            found = arguments[i + 1]
        elif argument.startswith(name + "="):
            found = argument.partition("=")[2]
    return found


def _as_flags(kind: type[RunConfig], settings: Mapping[str, Any], file: str) -> list[str]:
    """Settings from a file, as the command line would give them, so that both are checked alike."""
    known = [field.name for field in dataclasses.fields(kind)]
    arguments = []
    for name, value in settings.items():
        if name not in known:
            raise InputError(f"{file}: unknown setting {name!r}; {suggestion(str(name), known)}")
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            arguments += [flag, *map(str, value)]
        else:
            arguments += [flag, str(value)]
    return arguments


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
