"""The pictures and the report of a weights experiment."""

from collections.abc import Mapping

from jevo.experiments.forward import draw_curves
from jevo.experiments.weights.config import Config
from jevo.runs import Contest, Outcome, Report, Run, answers_figure, captioned


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the weights experiment says of itself."""
    own = outcomes["search"]
    found = int(own.found[0].found)
    figures = {
        "curves.png": captioned(
            f"Fitness and {contest.criterion.scored} by generation. Fitness is that of its generation's train batch.",
            draw_curves, contest.lines(run.folder), outcomes, contest.criterion,
        ),
        **answers_figure(contest.dataset, own.champion.predicted, "The champion's"),
    }  # fmt: skip
    return Report(
        {"champion": {"generation": found, "validation": float(own.found[0].validation)}},
        [f"The champion is from generation {found:,}."],
        figures,
    )
