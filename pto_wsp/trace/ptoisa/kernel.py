"""`@ptoisa_kernel`: a kernel whose function records instructions one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pto_wsp.ir.build import KernelBuilder
from pto_wsp.trace.kernel import KernelFunction
from pto_wsp.trace.ptoisa.control import drain
from pto_wsp.trace.ptoisa.machine import recording


class InstructionKernel(KernelFunction):
    """What `@ptoisa_kernel` makes: a kernel as `@kernel` makes it, called in the same way.

    Its function, and the helpers it calls, may be generators: what they yield are instructions, and generators of instructions.
    """

    def body(self, builder: KernelBuilder, given: Mapping[str, Any]) -> Any:
        """Run the user's function, whose instructions are recorded as they are called."""
        with recording(builder):
            result = self.fn(**given)
            drain(result, self._loc)
