"""Measurements: the pipeline beside the least that any program must do for the same rows, in one run."""
