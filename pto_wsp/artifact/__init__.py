"""Artifacts: a compiled workload as bytes and on disk."""
