"""What users hold: the decorators and the workload, thin over the layers below."""
