"""`connect`: a pipeline of processes, as a workload or inside of one."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any, cast

from pto_wsp.api.workload import WorkloadFunction
from pto_wsp.csp import process
from pto_wsp.csp.channel import Channel
from pto_wsp.errors import Location, here


def connect(processes: Sequence[Any], channels: Sequence[Channel], *, timed: bool = False) -> Any:
    """The workload that runs these processes side by side, numbered in this order, with these channels between them.

        w = connect([process("load").produces(c).body(load), process("store").consumes(c).body(store)], [c])

    Lists of processes may stand in the list, as `replicate` gives them; `channels` are all that the processes use. timed: `try_send`
    and `query` may be used, and semantic time decides what they answer. Inside of a workload the pipeline becomes part of it, and
    nothing is given. Raises TraceError, TypeCheckError, CompileError, and what the bodies raise.
    """

    def pipeline() -> None:
        process.connect(processes, channels, timed=timed)

    return _Connected(cast(FunctionType, pipeline), here())()


class _Connected(WorkloadFunction):
    """A workload function that stands where the user connects processes."""

    def __init__(self, emit: FunctionType, at: Location) -> None:
        super().__init__(emit, "pipeline")
        self._at = at

    @property
    def loc(self) -> Location:
        """Where the user wrote it."""
        return self._at
