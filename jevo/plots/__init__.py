"""All that draws, as PNG files. Nothing else in jevo knows matplotlib."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jevo.plots.palette import LEVEL, Style, style
from jevo.plots.subjects import Curve, Individual, Layer, Panel

if TYPE_CHECKING:
    from jevo.plots.architecture import network_diagram
    from jevo.plots.charts import confusion_matrix, curves, estimates, front, pca_projection
    from jevo.plots.evolution import frame, snapshots, tiles
    from jevo.plots.genealogy import ancestors, family_tree
    from jevo.plots.genes import most_important_genes, score_by_gene, variance_explained
    from jevo.plots.images import image_grid, image_rows
    from jevo.plots.throughput import throughput_by_population

__all__ = [
    "LEVEL",
    "Curve",
    "Individual",
    "Layer",
    "Panel",
    "Style",
    "ancestors",
    "confusion_matrix",
    "curves",
    "estimates",
    "family_tree",
    "frame",
    "front",
    "image_grid",
    "image_rows",
    "most_important_genes",
    "network_diagram",
    "pca_projection",
    "score_by_gene",
    "snapshots",
    "style",
    "throughput_by_population",
    "tiles",
    "variance_explained",
]

_DRAWN_BY = {
    "architecture": ["network_diagram"],
    "charts": ["confusion_matrix", "curves", "estimates", "front", "pca_projection"],
    "evolution": ["frame", "snapshots", "tiles"],
    "genealogy": ["ancestors", "family_tree"],
    "genes": ["most_important_genes", "score_by_gene", "variance_explained"],
    "images": ["image_grid", "image_rows"],
    "throughput": ["throughput_by_population"],
}
_HOMES = {name: home for home, names in _DRAWN_BY.items() for name in names}


def __getattr__(name: str) -> Any:
    """What draws, imported when it is first asked for (PEP 562): a first generation need not wait for matplotlib."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jevo.plots' has no attribute {name!r}")
    return getattr(import_module(f"jevo.plots.{_HOMES[name]}"), name)
