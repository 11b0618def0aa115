"""The wir: one functional IR for kernels (over tiles) and workloads (over tasks)."""
