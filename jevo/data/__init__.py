"""Data sets by name, as NumPy arrays in three splits."""

from jevo.data.datasets import Dataset, Split, against_rest, load

__all__ = [
    "Dataset",
    "Split",
    "against_rest",
    "load",
]
