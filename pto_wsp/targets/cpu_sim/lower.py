"""Lowered wir becomes a plan: bytecode and tables whose size does not depend on the number of tasks.

What its bytes mean: csrc/include/pto_wsp/plan.hpp and csrc/src/plan.cpp. `nodes.py` writes the tree of loops and tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

from pto_wsp.errors import Location
from pto_wsp.ir.core import DType, Role, Wir, written_tensors
from pto_wsp.ir.scopes import DEPS
from pto_wsp.ir.tasks import slot_types
from pto_wsp.targets.cpu_sim.kernels import kernel_checks, write_kernel
from pto_wsp.targets.cpu_sim.nodes import Body, scalar_reads
from pto_wsp.targets.cpu_sim.schedule import Machine
from pto_wsp.targets.cpu_sim.stream import Stream

VERSION = 6
_READ, _WRITTEN, _TEMPORARY = 1, 2, 4


@dataclass(frozen=True)
class Plan:
    """A lowered workload: bytes for the runtime, and where the checks of its kernels come from in the user's source."""

    data: bytes
    lanes: int
    check_locations: tuple[tuple[Location | None, ...], ...]


def lower(wir: Wir, machine: Machine, deps: str) -> Plan:
    """The plan of lowered wir on a machine; dependences are found as `deps` says."""
    body = Body(wir, machine)
    tree = body.block(wir.body)
    s = Stream()
    s.out += b"PWPL" + VERSION.to_bytes(4, "little")
    s.u(len(wir.symbols))
    for name in wir.symbols:
        s.text(name)
    s.u(body.n_regs)
    _tensors(s, wir, body)
    slots = slot_types(wir)
    s.u(max(slots, default=-1) + 1)
    for i in range(max(slots, default=-1) + 1):
        s.u(slots.get(i, DType.I64).code)
    s.u(len(wir.kernels))
    for k in wir.kernels:
        write_kernel(s, k, machine.arch)
    body.schedule.write(s)
    s.u(DEPS.index(deps), len(body.handles))
    s.out += tree
    checks = tuple(tuple(e.loc for _, e in kernel_checks(k)) for k in wir.kernels)
    return Plan(bytes(s.out), machine.all_lanes, checks)


def _tensors(s: Stream, wir: Wir, body: Body) -> None:
    written, read = written_tensors(wir), scalar_reads(wir)
    s.u(len(wir.tensors))
    for v in wir.tensors:
        t = wir.tensor_type(v.name)
        s.text(v.name)
        flags = _READ * (v.name in read) | _WRITTEN * (v.name in written) | _TEMPORARY * (t.role is Role.TEMPORARY)
        s.u(t.dtype.code, flags, len(t.shape))
        for d in t.shape:
            body.affine(s, d)
