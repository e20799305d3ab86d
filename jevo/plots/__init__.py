"""All that draws, as PNG files. Nothing else in jevo knows matplotlib."""

from jevo.plots.architecture import Layer, network_diagram
from jevo.plots.charts import Curve, Panel, confusion_matrix, curves, estimates, front, pca_projection
from jevo.plots.evolution import frame, snapshots, tiles
from jevo.plots.genealogy import Individual, ancestors, family_tree
from jevo.plots.genes import most_important_genes, score_by_gene, variance_explained
from jevo.plots.images import image_grid, image_rows
from jevo.plots.palette import LEVEL, Style, style
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
