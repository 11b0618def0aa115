"""`@workload`: a Python function that emits tasks becomes wir."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any, Self

import numpy as np

from pto_wsp.errors import CompileError, Location, TraceError, TypeCheckError, here
from pto_wsp.ir.coordinates import check_kept, check_rules
from pto_wsp.ir.core import Eqn, Region, Role, TensorType, Var, Wir
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.rename import Renaming, name_pipelines_apart, pipeline_names, with_pipelines_apart
from pto_wsp.ir.variance import check_layouts
from pto_wsp.ir.verify import check_nesting, verify
from pto_wsp.passes.on_one_machine import on_one_machine
from pto_wsp.trace.axes import LoopAxis
from pto_wsp.trace.builder import WorkloadBuilder, tracing_workload
from pto_wsp.trace.calls import Call
from pto_wsp.trace.data_axes import Ragged, Sparse
from pto_wsp.trace.functional import buffer_of, check_returned, leaves, paths, refuse_unwritten, returns_of, tree_map
from pto_wsp.trace.pipes import Home
from pto_wsp.trace.tensor import Tensor, TensorSpec

MAX_CALLS = 100  # Python's own stack bears not many more


@dataclass(frozen=True, eq=False)
class Traced:
    """A traced workload: its wir, the tensors it was traced with by name, and the sizes its axes came with."""

    wir: Wir
    tensors: dict[str, TensorSpec] = field(default_factory=dict[str, TensorSpec])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    returns: Any = None  # names of results, in the tuples in which the function returns them
    channels: dict[int, Home] = field(default_factory=dict[int, Home])  # by id, those of its pipelines

    def __eq__(self, other: object) -> bool:
        """The same wir, sizes, and the very same tensors."""
        if not isinstance(other, Traced):
            return NotImplemented
        same = self.tensors.keys() == other.tensors.keys() and all(
            t is other.tensors[n] for n, t in self.tensors.items()
        )
        return same and (self.wir, self.sizes, self.returns) == (other.wir, other.sizes, other.returns)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def need(what: str, w: object) -> None:
        """Raise TraceError unless w is a traced workload."""
        if not isinstance(w, Traced):
            raise TraceError(
                "PTO155",
                f"{what} needs a traced workload",
                values={"got": repr(w)[:80]},
                loc=here(),
                fix=f"call the workload first: {what}(...)(attention(x, y))",
            )

    def with_wir(self, wir: Wir) -> Self:
        """The same tensors and sizes around another wir. Raises ScheduleError where a policy asks for a coordinate that it takes away."""
        check_rules(wir)
        check_kept(self.wir, wir)
        return replace(self, wir=with_pipelines_apart(wir))

    def wrapped(self, prim: str, **params: Any) -> Self:
        """The whole body inside one equation `prim[params] { ... }`."""
        eqn = Eqn(prim, params=params, regions=(self.wir.body,), loc=here())
        check_nesting(Region((), (eqn,)))
        return self.with_wir(self.wir.with_body(eqn))


class TracedFunction:
    """A Python function that emits tasks, with the transformations that its tasks get: what decorators and `vmap` make.

    Called outside of a workload it is traced and gives a `Traced`; called inside one, its tasks become part of that workload,
    and it gives the tensors that it returns.
    """

    def __init__(self, fn: FunctionType, label: str) -> None:
        self.user_fn = fn
        self.fn: Callable[..., Any] = fn  # what runs under trace: the user's function, or one that calls it
        self.label = label
        self.steps: tuple[Step, ...] = ()
        self.joined: tuple[tuple[TracedFunction, ...], tuple[int, ...]] | None = (
            None  # of a pipeline: stages and depths
        )
        self.__name__ = label
        self.__doc__ = fn.__doc__
        self.signature = inspect.signature(fn)
        if any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in self.signature.parameters.values()):
            raise TraceError(
                "PTO131",
                f"workload {label} takes *args, **kwargs or positional-only parameters",
                loc=self.loc,
                fix="name every parameter",
            )

    def derived(self, fn: Callable[..., Any], label: str, signature: inspect.Signature) -> Self:
        """A function of the same kind, called with the parameters of `signature`, that runs `fn` under trace."""
        new = type(self)(self.user_fn, label)
        new.fn, new.signature = fn, signature
        return new

    def then(self, step: Step) -> Self:
        """This function, with one transformation more of what it emits."""
        new = self.derived(self.fn, self.label, self.signature)
        new.steps = (*self.steps, step)
        return new

    @property
    def loc(self) -> Location:
        """Where the user wrote it."""
        code = self.user_fn.__code__
        return Location(code.co_filename, code.co_firstlineno, self.user_fn.__name__)

    @staticmethod
    def need(what: str, f: object) -> None:
        """Raise TraceError unless f is a workload function."""
        if not isinstance(f, TracedFunction):
            raise TraceError(
                "PTO155",
                f"{what} needs a workload function",
                values={"got": repr(f)[:80]},
                loc=here(),
                fix=f"give the function itself, {what}(attention), and arguments to what it gives",
            )

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by parameter. Raises TypeCheckError where they do not fit."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as e:
            method = next(iter(self.signature.parameters), "") == "self"
            fix = "a workload is a function, not a method" if method else "give the arguments its definition names"
            raise TypeCheckError("PTO155", f"workload {self.label}: {e}", loc=here(), fix=fix) from e
        bound.apply_defaults()
        return dict(bound.arguments)

    def trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], builder: WorkloadBuilder | None = None) -> Traced:
        """Run the function once under trace; its wir, verified and free of proven races. `builder` then knows the names."""
        known: dict[int, tuple[object, TensorSpec]] = {}
        given = {
            n: tree_map(lambda x, path: _as_tensor(x, path, known), a, n)
            for n, a in self.arguments(args, kwargs).items()
        }
        builder = builder or WorkloadBuilder(self.label)
        builder.arrays.update(known)
        with tracing_workload(builder):
            result, _ = called(builder, self, given)
            returns = returns_of(builder, result)
            names = tuple(n for n in leaves(returns) if n is not None)
            builder.returns = names if isinstance(returns, tuple) else returns
        wir = builder.finish()
        tensors = {n: t for n, t in builder.tensors.items() if t.role is Role.GIVEN}
        sizes = {n: v for n, v in builder.symbols.items() if v is not None}
        traced = Traced(wir, tensors, sizes, returns, builder.channel_homes)
        for step in self.steps:
            traced = step(traced)
        verify(traced.wir, "traced")
        check_layouts(traced.wir, self.loc)
        alone = on_one_machine(traced.wir)
        if alone is not traced.wir:
            verify(alone, "traced", after="on_one_machine", known=traced.wir.kernels)
        refuse_unwritten(alone, self.loc)
        refuse_races(alone)
        return traced

    def inline(self, builder: WorkloadBuilder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Emit its tasks into the workload under trace; what it returns. Arguments may be views of that workload's tensors."""
        given = {n: tree_map(partial(_inside, builder), a, n) for n, a in self.arguments(args, kwargs).items()}
        for x in (leaf for a in given.values() for leaf in leaves(a)):
            if isinstance(x, (TensorSpec, LoopAxis, Ragged, Sparse)):  # the caller's name for it, not the parameter's
                builder.name(x.handle if isinstance(x, TensorSpec) else x, None)
        if not self.steps:
            return called(builder, self, given)[0]
        builder.open_block()  # what transformations get, and its scalars, are a region
        result, call = called(builder, self, given)
        returned = leaves(result)
        own = {id(buffer_of(x)) for x in call.owned} - {id(buffer_of(x)) for x in returned if x is not None}
        part = _part(builder, self.label, builder.close_block(), own)
        known, own_pipes = _bound(part.wir.body.eqns), pipeline_names(part.wir.body.eqns)
        for step in self.steps:
            part = step(part)
        builder.reshape(part.wir.tensors)
        builder.pipe_names.difference_update(own_pipes)
        for eqn in name_pipelines_apart(_adopted(builder, part.wir, known), builder.pipe_names):
            builder.append(eqn)
        return result


Step = Callable[[Any], Any]
"""A transformation: from workload to workload."""


def transformation(what: str, apply: Callable[[Traced], Traced]) -> Step:
    """What `dispatch(policy)` and the like give: `apply` of a traced workload, and of a function that emits one the function whose workloads
    get it. Raises TraceError for anything else."""

    def transformed(w: object) -> object:
        if isinstance(w, TracedFunction):
            return w.then(transformed)
        Traced.need(what, w)
        assert isinstance(w, Traced)
        return apply(w)

    return transformed


def called(builder: WorkloadBuilder, f: TracedFunction, given: dict[str, Any]) -> tuple[Any, Call]:
    """Run `f` once under trace, and check how it ends and what it returns; the result, and the call that is over."""
    names = [c.label for c in builder.calls]
    if any(c.runs is f.fn for c in builder.calls):
        names = names[[c.runs for c in builder.calls].index(f.fn) :]
        raise TraceError(
            "PTO180",
            f"workload {f.label} calls itself",
            values={"calls": " -> ".join([*names, f.label])},
            loc=here(),
            fix="write a loop: P.seq(n), or Python's for over a Python number",
        )
    if len(builder.calls) >= MAX_CALLS:
        raise CompileError(
            "PTO405",
            f"workloads that call each other deeper than {MAX_CALLS}",
            values={"innermost": f.label},
            loc=here(),
            fix="write a loop over the layers: for Python's for, P.seq or scan",
        )
    named = {path: x for n, a in given.items() for path, x in paths(a, n)}
    call = Call(f.user_fn, f.label, named, f.fn, len(builder.blocks))
    builder.calls.append(call)
    result = f.fn(**given)
    left = builder.broken or next((b.loop.loc for b in builder.blocks[call.depth :] if b.loop is not None), None)
    if left is not None:
        raise TraceError(
            "PTO151",
            "break, return or an exception left a traced loop",
            loc=left,
            fix="a traced loop runs its body once, for all iterations: make its extent shorter instead",
        )
    check_returned(builder, result, f.loc)
    builder.calls.pop()
    if builder.calls:
        builder.calls[-1].owned += [x for x in leaves(result) if x is not None]
    return result, call


def _as_tensor(x: Any, name: str, known: dict[int, tuple[object, TensorSpec]]) -> Any:
    """Arrays become tensors, named like the parameter. A TensorSpec is a type: each parameter given one is a tensor of its own."""
    if isinstance(x, np.ndarray) or (hasattr(type(x), "__dlpack__") and not isinstance(x, np.generic)):
        tensor = Tensor(x, name=name)
        tensor.given_name = None
        known.setdefault(id(x), (x, tensor))
        return tensor
    return copy(x) if type(x) is TensorSpec else x


def _inside(builder: WorkloadBuilder, x: Any, name: str) -> Any:
    """An argument of a call inside of a workload: an array is one tensor wherever it is given."""
    if id(x) in builder.arrays:
        return builder.arrays[id(x)][1]
    if type(x) is TensorSpec:
        return x
    made = _as_tensor(x, name, builder.arrays)
    if made is not x:
        builder.call_it(made, builder.name(x, None) or name)
    return made


def _part(builder: WorkloadBuilder, label: str, eqns: tuple[Eqn, ...], own: set[int]) -> Traced:
    """What a call emitted, as a workload. Temporaries other than its `own` buffers are used outside of it, as given tensors are."""
    whole = builder.finish()
    tensors = tuple(
        v if id(builder.tensors[v.name]) in own else Var(v.name, TensorType(t.dtype, t.shape, layout=t.layout))
        for v, t in ((v, whole.tensor_type(v.name)) for v in whole.tensors)
    )
    return Traced(replace(whole, name=label, tensors=tensors, body=Region((), builder.named(eqns))), builder.tensors)


def _adopted(builder: WorkloadBuilder, part: Wir, known: set[str]) -> list[Eqn]:
    """The equations of a transformed part, whose `known` variables the workload has; others get names that are new in it."""
    have = {k.name for k in builder.kernels.values()}
    builder.kernels.update({k.name: k for k in part.kernels if k.name not in have})
    renaming = Renaming({n: builder.reserve(n) for n in sorted(_bound(part.body.eqns) - known)})
    return [renaming.eqn(e) for e in part.body.eqns]


def _bound(eqns: tuple[Eqn, ...]) -> set[str]:
    """The names of variables that equations bind."""
    inside = [e for top in eqns for e in top.walk()]
    return {v.name for e in inside for v in (*e.outs, *(p for r in e.regions for p in r.params))}
