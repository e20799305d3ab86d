"""Data sets by name, as NumPy arrays in three splits."""

from jevo.data.datasets import Dataset as Dataset
from jevo.data.datasets import Split as Split
from jevo.data.datasets import against_rest as against_rest
from jevo.data.datasets import load as load
