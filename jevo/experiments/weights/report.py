"""The pictures and the report of a weights experiment."""

from collections.abc import Mapping

from jevo import plots
from jevo.experiments.forward import draw_curves
from jevo.experiments.weights.config import Config
from jevo.runs import Contest, Outcome, Report, Run, captioned


def report(run: Run[Config], contest: Contest, outcomes: Mapping[str, Outcome]) -> Report:
    """What the weights experiment says of itself."""
    own, dataset = outcomes["search"], contest.dataset
    found = int(own.found[0].found)
    figures = {
        "curves.png": captioned(
            "Fitness and accuracy by generation. Fitness is that of the train batch of its generation.",
            draw_curves, contest.lines(run.folder), outcomes,
        ),
        "confusion.png": captioned(
            "The champion's confusion matrix on the test set.",
            plots.confusion_matrix, dataset.test.y, own.champion.predicted, dataset.classes,
        ),
    }  # fmt: skip
    return Report(
        {"champion": {"generation": found, "validation": float(own.found[0].validation)}},
        [f"The champion is from generation {found:,}."],
        figures,
    )
