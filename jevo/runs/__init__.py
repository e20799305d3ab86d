"""What a run is: settings, the loop, checkpoints, records, reports."""
