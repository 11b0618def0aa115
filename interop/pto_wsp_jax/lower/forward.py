"""What has derivatives in forward mode alone: loops of which nobody knows how often they run at most.

JAX's own error for reverse mode says neither which loop it is nor what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pto_wsp.errors import Location, UnsupportedError, here

forward_p = Primitive("pto_forward")


def forward_alone(values: Sequence[Any], what: str, fix: str, loc: Location | None) -> list[Any]:
    """The values; a reverse derivative of them is an error: `what` has none."""
    floats = [jnp.issubdtype(x.dtype, jnp.inexact) for x in values]
    return [forward_p.bind(x, what=what, fix=fix, loc=loc) if f else x for x, f in zip(values, floats, strict=True)]


def _same(x: Any, **params: Any) -> Any:
    return x


def _transpose(ct: Any, x: Any, *, what: str, fix: str, loc: Location | None) -> Any:
    raise UnsupportedError(
        *(
            "PTO885",
            f"{what} has no reverse derivative: how often it runs at most does not follow from what it touches",
        ),
        loc=loc or here(),
        fix=fix,
    )


forward_p.def_impl(_same)
forward_p.def_abstract_eval(_same)
mlir.register_lowering(forward_p, mlir.lower_fun(_same, multiple_results=False))
batching.defvectorized(forward_p)
ad.deflinear2(forward_p, _transpose)
