"""`kernel_from_jax`: kernels of functions of `jnp` and `lax`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

import jax

from pto_wsp import pto
from pto_wsp.api.costs import Costed
from pto_wsp.errors import Location, PtoError, TraceError, at, check_name, here, user_frame
from pto_wsp.ir.core import DType, TileType
from pto_wsp.trace.annotations import In, Out, ScalarParam
from pto_wsp_jax.arrays import Array, Shape
from pto_wsp_jax.constants import aval_of
from pto_wsp_jax.jaxpr import Walk, stored


def kernel_from_jax(f: Callable[..., Any], *types: Any, name: str | None = None) -> JaxKernel:
    """A kernel that does what `f`, a function of `jnp` and `lax` operations, does to arrays of these types.

        softmax = kernel_from_jax(jax.nn.softmax, Tile[16, 128, DType.F32])
        softmax[i](x=X[i], out=Y[i])  # in a workload

    types: of the arguments of f, in order: `Tile[rows, cols, dtype]` for an array of rank 2, `Scalar[dtype]` for one of rank 0.
    name: what reports call it; by default the name of f.

    The kernel is one as `@kernel` makes. Its parameters are the arguments of f by their names, those of `*args` with a number behind, and then
    `out`, or `out0`, `out1`, ... for several results (in any tuples, lists and dicts): tiles of the shapes of the results, one row for
    an array of rank 1, one element for one of rank 0. f runs once, here, with JAX's tracers; its primitives become operations on tiles, calls are
    inlined, `scan`, `fori_loop` and `cond` become loops and branches. dtypes are those that JAX computes in.

    A tile that is a part (at the end of an axis) gives that part of what f makes of the whole one. Where a result depends on what is
    not there, as a sum of all rows does, the task is an error (KernelError).

    Raises UnsupportedError for a primitive that has no operation, at the line of f that uses it, and for arrays that f holds and that are not
    all one number; TraceError for arguments and results that a kernel cannot have; what JAX raises when it traces f.
    """
    if not callable(f):
        raise _mistake(
            f"kernel_from_jax of {type(f).__name__}", "give the function, kernel_from_jax(jax.nn.softmax, ...)"
        )
    label = check_name(name, "a kernel", "PTO155") or getattr(f, "__name__", type(f).__name__)
    names = _names(f, label, len(types))
    given = [_shape_and_dtype(label, n, t) for n, t in zip(names, types, strict=True)]
    closed, results = jax.make_jaxpr(f, return_shape=True)(*(jax.ShapeDtypeStruct(s, d.numpy) for s, d in given))
    for n, (_, dtype), v in zip(names, given, closed.jaxpr.invars, strict=True):
        if aval_of(v.aval)[1] is not dtype:
            raise _mistake(
                f"kernel {label}, argument {n}: JAX computes {dtype} in {v.aval.dtype}",
                'say jax.config.update("jax_enable_x64", True), or take a smaller dtype',
            )
    outs = [aval_of(x) for x in jax.tree.leaves(results)]
    return JaxKernel(closed, label, dict(zip(names, types, strict=True)), _outputs(label, names, outs), _place(f))


class JaxKernel(Costed):
    """What `kernel_from_jax` makes: a kernel as any other, whose function walks a jaxpr."""

    def __init__(
        self, closed: Any, label: str, given: Mapping[str, Any], outputs: Mapping[str, TileType], loc: Location
    ) -> None:
        notes = {n: In[t] if isinstance(t, TileType) else t for n, t in given.items()}
        notes |= {n: Out[t] for n, t in outputs.items()}
        kind = inspect.Parameter.KEYWORD_ONLY

        def function(**values: Any) -> None:
            self._compute(values)

        signature = inspect.Signature([inspect.Parameter(n, kind, annotation=note) for n, note in notes.items()])
        function.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess] - what inspect.signature looks at
        self._closed, self._inputs, self._outputs, self._place = closed, tuple(given), tuple(outputs), loc
        self._walk = Walk()
        super().__init__(function, label, user_frame())
        self.__doc__ = f"{label}, a function of JAX arrays, as a kernel."
        self.trace(label, {}, {})  # what has no operation is an error here

    @property
    def _loc(self) -> Location:
        return self._place

    def _compute(self, values: Mapping[str, Any]) -> None:
        arrays = [
            _argument(values[n], aval_of(v.aval)) for n, v in zip(self._inputs, self._closed.jaxpr.invars, strict=True)
        ]
        results = self._walk.kernel(self._closed, arrays)
        for name, a in zip(self._outputs, results, strict=True):
            with at(self._place):
                pto.store(values[name], stored(a))


def _argument(value: Any, aval: tuple[Shape, DType]) -> Array:
    shape, dtype = aval
    row, col = (k if n > 1 else None for k, n in enumerate(shape)) if shape else (None, None)
    return Array(value, shape, dtype, row, col)


def _mistake(what: str, fix: str) -> PtoError:
    return TraceError("PTO889", what, loc=here(), fix=fix)


def _names(f: Callable[..., Any], label: str, count: int) -> list[str]:
    """Those of the first `count` arguments of f."""
    try:
        bound = inspect.signature(f).bind(*range(count))
    except TypeError as e:
        raise _mistake(
            f"{label} does not take {count} arguments: {e}",
            "give a type for each array; fix others beforehand: functools.partial(f, axis=0), or a lambda",
        ) from None
    except ValueError:  # a builtin that does not tell
        return [f"x{k}" for k in range(count)]
    names = dict[int, str]()
    for n, given in bound.arguments.items():
        names |= {x: f"{n}{k}" for k, x in enumerate(given)} if isinstance(given, tuple) else {given: n}
    return [names[k] for k in range(count)]


def _shape_and_dtype(label: str, name: str, t: Any) -> tuple[Shape, DType]:
    if isinstance(t, TileType):
        return t.shape, t.dtype
    notes = get_args(t)[1:] if get_origin(t) is Annotated else ()
    if len(notes) == 1 and isinstance(notes[0], ScalarParam):
        return (), notes[0].dtype
    raise _mistake(
        f"kernel {label}, argument {name}: its type is {t!r:.80}", "give Tile[rows, cols, dtype] or Scalar[dtype]"
    )


def _outputs(label: str, names: Sequence[str], results: Sequence[tuple[Shape, DType]]) -> dict[str, TileType]:
    if not results:
        raise _mistake(f"{label} gives no array", "return what it computes")
    own = ["out"] if len(results) == 1 else [f"out{k}" for k in range(len(results))]
    for n in own:
        if n in names:
            raise _mistake(
                f"kernel {label}: its argument {n} has the name of a result", "give the argument another name"
            )
    outputs = dict[str, TileType]()
    for n, (shape, dtype) in zip(own, results, strict=True):
        if len(shape) > 2 or 0 in shape:
            raise _mistake(
                f"{label} gives an array of shape {shape}", "return arrays of at most two axes, with an element or more"
            )
        rows, cols = (*(1,) * (2 - len(shape)), *shape)
        outputs[n] = TileType(dtype, rows, cols)
    return outputs


def _place(f: Callable[..., Any]) -> Location:
    """Where f is written, or, where it is not Python, where the kernel is made."""
    code = getattr(inspect.unwrap(f), "__code__", None)
    return here() if code is None else Location(code.co_filename, code.co_firstlineno, code.co_name)
