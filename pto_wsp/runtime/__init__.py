"""Programs: artifacts bound to arrays and sizes, and their runs. The only place that imports the compiled core."""
