"""Tracing: Python functions over tiles and axes become wir."""
