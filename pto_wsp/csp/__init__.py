"""Processes and channels: what users write of pipelines."""
