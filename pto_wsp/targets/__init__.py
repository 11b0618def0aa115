"""Targets: what lowers workloads to plans and compiles plans to artifacts."""
