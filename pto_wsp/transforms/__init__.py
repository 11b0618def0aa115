"""Transformations: functions from workload to workload."""
