"""The experiments: `python -m jevo.experiments.NAME`."""
