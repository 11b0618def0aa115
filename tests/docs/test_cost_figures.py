"""The page of figures is that of the arch files, and its predictions are what kernels cost now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from project import ROOT
from pto_wsp import arch
from pto_wsp.tools.cost_page import CORES, MACHINE, POINTS, gemm_tile, render


def test_the_page_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs" / "cost_figures.md", render())


def test_predictions_lie_near_published_measurements() -> None:
    ratios = {p.name: p.predicted / p.published for p in POINTS}
    assert [p.published for p in POINTS] == [0.0388, 0.2067, 1.506, 3.168, 0.324]
    products = [r for name, r in ratios.items() if name.startswith("GEMM")]
    assert len(products) == 4
    assert all(0.75 < r < 1.15 for r in products)
    assert all(0.95 < r < 1.15 for r in products[1:])
    assert 0.6 < ratios["TopK of 4800 rows of 1024, f32"] < 1


@pytest.mark.parametrize("n", [1536, 6144])
def test_a_product_is_its_loads_and_the_last_step(n: int) -> None:
    """By hand: steps of GM to L1 at 135 GiB/s, one product of 128 x 256 x 64, and one store from L0C at 70 GiB/s."""
    byte = 1.85e9 / 2**30
    loads = [-(-size * byte // 135) for size in (128 * 64 * 2, 64 * 256 * 2)]
    by_hand = n // 64 * sum(loads) + 6 + 8 * 4 * 16 - (-128 * 256 * 4 * byte // 70)
    assert gemm_tile.cost(MACHINE, a=(128, n), b=(n, 256)) == by_hand
    assert (n // 128) * (n // 256) % CORES == 0
    assert arch.get(MACHINE).model == "pipes"
