"""The CPU runtime: real threads, and semantic time of an arch beside them."""
