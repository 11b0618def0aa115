"""`@ptoisa_kernel`: a kernel whose function records instructions one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pto_wsp.errors import Location, TraceError
from pto_wsp.ir.build import KernelBuilder
from pto_wsp.trace.kernel import KernelFunction
from pto_wsp.trace.ptoisa.instruction import Event
from pto_wsp.trace.ptoisa.machine import recording


class InstructionKernel(KernelFunction):
    """What `@ptoisa_kernel` makes: a kernel as `@kernel` makes it, called in the same way.

    Its function, and the helpers it calls, may be generators: what they yield are instructions, and generators of instructions.
    """

    def body(self, builder: KernelBuilder, given: Mapping[str, Any]) -> Any:
        """Run the user's function, whose instructions are recorded as they are called."""
        with recording(builder):
            result = self.fn(**given)
            if result is not None:
                self._drain(result)

    def _drain(self, x: object) -> None:
        """Run a generator of instructions to its end."""
        if isinstance(x, Event) or x is None:
            return
        if isinstance(x, Iterable) and not isinstance(x, (str, bytes)):
            for inner in x:  # pyright: ignore[reportUnknownVariableType]
                self._drain(inner)  # pyright: ignore[reportUnknownArgumentType]
            return
        code = self.fn.__code__
        raise TraceError(
            "PTO196",
            f"kernel {self.label} yields or returns what is no instruction",
            values={"got": repr(x)[:80]},
            loc=Location(code.co_filename, code.co_firstlineno, code.co_name),
            fix="yield what instructions return, or nothing; results are stored: ptoisa.TSTORE(out, tile)",
        )
