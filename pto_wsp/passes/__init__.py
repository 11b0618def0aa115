"""Passes: pure functions from wir to wir, one a file, and the pipelines that name them in order."""
