"""Workloads as plain operations of JAX."""
