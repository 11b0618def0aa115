"""The documents state the errors that the C++ tests hold the tile operations to."""

import re

from project import ROOT
from pto_wsp import ops


def test_documented_errors_are_those_of_the_tile_operations() -> None:
    header = (ROOT / "csrc/include/pto_wsp/tile_ops.hpp").read_text()
    line = re.search(r"^//\s+(exp [\d., a-z]+);", header, re.MULTILINE)
    assert line is not None
    stated = {name: float(ulp) for name, ulp in re.findall(r"(\w+) ([\d.]+)", line[1])}
    assert set(stated) == {"exp", "log", "tanh", "erf", "sin", "cos", "rsqrt", "exp2", "log2"}
    for name, ulp in stated.items():
        documented = re.search(r"([\d.]+) ulp of f32, then one rounding", getattr(ops, name).__doc__ or "")
        assert documented is not None
        assert float(documented[1]) == ulp, name
