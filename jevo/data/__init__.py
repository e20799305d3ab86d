"""Data sets by name, as NumPy arrays in three splits."""

from jevo.data.datasets import Dataset, Split, against_rest, from_arrays, from_source, load

__all__ = [
    "Dataset",
    "Split",
    "against_rest",
    "from_arrays",
    "from_source",
    "load",
]
