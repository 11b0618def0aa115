"""The native tier: fused C++ for each kernel, in the place of calls of tile operations."""
