"""Searching for a schedule: spaces of configurations, what each costs, and which one is best."""
