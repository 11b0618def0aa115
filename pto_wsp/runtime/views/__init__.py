"""Pictures of a traced run, one a file."""
