"""Runs: settings in, and a folder out that holds all of it. What an experiment is written with."""

from jevo.runs.champion import Answers, Champion, Saved, save_apart
from jevo.runs.checkpoint import load_arrays, load_model, save_arrays, save_model
from jevo.runs.command import main
from jevo.runs.competitor import Competitor, competitors
from jevo.runs.config import BreedingConfig, RunConfig
from jevo.runs.contest import (
    Contest,
    Contestant,
    Judged,
    Outcome,
    Phase,
    Phases,
    judging,
    medians,
    metrics_file,
    without_population,
)
from jevo.runs.evolution import Evolved, evolve, load_champion
from jevo.runs.experiment import Experiment, Report, answers_figure, captioned, load_dataset
from jevo.runs.front import ACCURACY, R2, Front, Merit, Price, by_criterion, front_figures, front_report, judge_front
from jevo.runs.lines import Lines, read_lines, write_lines
from jevo.runs.loop import Programs, Stage, run_stage
from jevo.runs.machine import precision
from jevo.runs.portable import Portable, from_safetensors
from jevo.runs.processes import population_mesh
from jevo.runs.progress import LiveTable, duration
from jevo.runs.record import Run, read_result
from jevo.runs.settings import read_yaml
from jevo.runs.signals import Interrupted, StopSignal

__all__ = [
    "ACCURACY",
    "R2",
    "Answers",
    "BreedingConfig",
    "Champion",
    "Competitor",
    "Contest",
    "Contestant",
    "Evolved",
    "Experiment",
    "Front",
    "Interrupted",
    "Judged",
    "Lines",
    "LiveTable",
    "Merit",
    "Outcome",
    "Phase",
    "Phases",
    "Portable",
    "Price",
    "Programs",
    "Report",
    "Run",
    "RunConfig",
    "Saved",
    "Stage",
    "StopSignal",
    "answers_figure",
    "by_criterion",
    "captioned",
    "competitors",
    "duration",
    "evolve",
    "from_safetensors",
    "front_figures",
    "front_report",
    "judge_front",
    "judging",
    "load_arrays",
    "load_champion",
    "load_dataset",
    "load_model",
    "main",
    "medians",
    "metrics_file",
    "population_mesh",
    "precision",
    "read_lines",
    "read_result",
    "read_yaml",
    "run_stage",
    "save_apart",
    "save_arrays",
    "save_model",
    "without_population",
    "write_lines",
]
