"""The pictures and the report of a weights experiment."""

from collections.abc import Mapping

from jevo.experiments.forward import scale_notes
from jevo.experiments.weights.config import Config
from jevo.runs import Contest, Outcome, Report, Run, answers_figure


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the weights experiment says of itself."""
    own = outcomes["search"]
    found = int(own.found[0].found)
    return Report(
        {"champion": {"generation": found, "validation": float(own.found[0].validation)}},
        [f"The champion is from generation {found:,}.", *scale_notes(run.config, contest.criterion)],
        answers_figure(contest.dataset, own.champion.predicted, "The champion's"),
    )
