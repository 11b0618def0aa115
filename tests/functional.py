"""What workloads return, found in three ways that must agree."""

from typing import Any

import numpy as np

from pto_wsp import Tensor, Workload
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse
from pto_wsp.passes.expand import expand


def data(*shape: int) -> Any:
    return np.random.default_rng(7).integers(-9, 9, shape).astype(np.float32)


def results(w: Workload, sizes: dict[str, int] | None = None, **arrays: Any) -> Any:
    """What a run of `w` returns, on 1 and on 3 threads and by the reference evaluator alike; arrays of specs by name."""
    assert parse(str(w.wir)) == w.wir
    given = {n: t.data for n, t in w.tensors.items() if isinstance(t, Tensor)} | arrays
    sizes = {**w.sizes, **(sizes or {})}
    copies = {n: a.copy() for n, a in given.items()}
    before = {n: a.copy() for n, a in given.items()}
    found = evaluate(expand(w.wir), copies, sizes)
    names = w.wir.returns if isinstance(w.wir.returns, tuple) else (w.wir.returns,) if w.wir.returns else ()
    for threads in (1, 3):
        for n, a in given.items():
            a[...] = before[n]
        p = w.compile(threads=threads).bind(given)
        for n, size in sizes.items():
            p.set_symbol_u64(n, size)
        made = p.run().results
        for n, a in zip(names, made if isinstance(made, tuple) else (made,), strict=bool(names)):
            assert (a == found[n]).all()
        assert all((a == copies[n]).all() for n, a in given.items())

    def named(tree: Any) -> Any:
        return tuple(named(t) for t in tree) if isinstance(tree, tuple) else None if tree is None else found[tree]

    return named(w.returns)
