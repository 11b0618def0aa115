"""Benchmarks a user runs: `python -m pto_wsp.tools.bench`. Rows and rules are in cases.json."""
