"""What calls run: a workload function, traced for each signature, or a program that is there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pto_wsp.api.jit import name_in
from pto_wsp.api.workload import Workload, WorkloadFunction
from pto_wsp.errors import BindError, TypeCheckError, UnsupportedError, here, no_options
from pto_wsp.ir.core import Role, Wir
from pto_wsp.ir.coverage import Uses, is_written_first
from pto_wsp.runtime.program import Program
from pto_wsp.trace.builder import WorkloadBuilder
from pto_wsp.trace.functional import tree_map
from pto_wsp.trace.tensor import Tensor, TensorSpec
from pto_wsp_jax.signature import JaxSignature
from pto_wsp_jax.site import Site


@dataclass(frozen=True)
class Given:
    """The arguments of one call. operands: arrays by path."""

    key: object
    operands: Mapping[str, Any]
    signature: JaxSignature
    tree: Mapping[str, Any]


Made = tuple[Site, tuple[str, ...], Any, bool]
"""A site, the paths of its operands, the names of its results in the tuples in which calls give them, and whether arguments that are written are
given back by name."""


def with_lengths_checked(wir: Wir, operands: Iterable[str]) -> Wir:
    """The wir without the axes whose lengths, pointers or indices are operands: values of an axis are checked when they are bound, which those
    of a call never are; what no axis has is checked where it is read."""
    known = frozenset(operands)
    axes = tuple(a for a in wir.axes if known.isdisjoint(a.tensors))
    return wir if axes == wir.axes else replace(wir, axes=axes)


class OfFunction:
    """A workload function."""

    def __init__(self, f: WorkloadFunction, options: Mapping[str, Any]) -> None:
        self._f, self._options = f, options
        self.label, self.doc = f.label, f.__doc__

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        """The arguments of a call."""
        signature = JaxSignature()
        tree = {n: tree_map(signature.leaf, a, n) for n, a in self._f.arguments(args, kwargs).items()}
        return Given((signature.key, signature.values), signature.operands, signature, tree)

    def site(self, given: Given) -> Made:
        """The site of its signature."""
        signature, builder = given.signature, WorkloadBuilder(self.label)
        traced = self._f.trace((), dict(given.tree), builder)
        if traced.wir.mesh is not None:
            raise UnsupportedError(
                *("PTO881", f"workload function {self.label} has tensors with layouts, but arguments of JAX have none"),
                loc=here(),
                fix="call it with TensorSpec(shape, dtype, layout=TensorLayout(...)), and as_jax of what that gives",
            )
        names = {p: n for p, x in signature.tensors.items() for n, t in traced.tensors.items() if t is x}
        axes = {p: n for p, x in signature.axes.items() if (n := name_in(builder, x)) is not None}
        others = {n: t for n, t in traced.tensors.items() if n not in names.values()}
        wir = with_lengths_checked(traced.wir, names.values())
        program = Workload(wir, others, traced.sizes, traced.returns).compile(**self._options)
        program.set_axis_sizes({axes[p]: size for p, size in signature.sizes.items() if p in axes})
        program.bindings.check_control(set())
        fresh = frozenset(names[p] for p in signature.fresh if p in names)
        site = Site(program, tuple(names[p] for p in signature.tensors if p in names), fresh, (), self._options)
        return site, tuple(p for p in signature.operands if p in names), traced.returns, False


class OfProgram:
    """A compiled workload, whose arguments are its tensors and, by name, its sizes."""

    def __init__(self, program: Program, returns: Any, options: Mapping[str, Any]) -> None:
        bound = program.bindings
        self._program, self._returns, self._options = program, returns, options
        self.label = bound.wir.name
        self.doc = f"Workload {self.label}."
        given = (n for n, t in bound.types.items() if t.role is Role.GIVEN)
        self._tensors = tuple(n for n in given if n not in bound.hidden)
        self._symbols = {n: n for n in bound.numbers}
        self._symbols |= {a: s[1:] for a, s in bound.manifest["axes"].items() if isinstance(s, str)}

    @staticmethod
    def of(program: Program, options: dict[str, Any]) -> OfProgram:
        """A program as it was compiled."""
        no_options("as_jax of a program", options, "vjp; it is compiled already")
        for what, has in (
            ("check=", program.checks),
            ("resources=", program.resources.sizes()),
            ("slots", program.slots),
        ):
            if has:
                raise UnsupportedError(
                    *("PTO881", f"as_jax of a program with {what}, which calls do not carry"),
                    loc=here(),
                    fix="compile it without",
                )
        m = program.bindings.manifest
        as_compiled = {"arch": f"{m['arch']}:{m['model']}", "native": m["native"], "threads": program.threads}
        return OfProgram(program.copy(), program.bindings.wir.returns, as_compiled)

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        """The arguments of a call. Raises TypeCheckError."""
        known = {*self._tensors, *self._symbols, *(a.name for a in self._program.bindings.wir.axes)}
        named = dict(zip(self._tensors, args, strict=False))
        unknown = [n for n in kwargs if n not in known or n in named]
        if unknown:
            raise self._wrong(f"takes no argument {unknown[0]}")
        if len(args) > 1 or (args and len(self._tensors) > 1):  # the order that it has them in is not the user's
            raise self._wrong(f"has {len(self._tensors)} tensors, which are given by name")
        named |= kwargs
        signature, tree = JaxSignature(), {}
        for n, x in sorted(named.items()):
            if n in self._tensors and not isinstance(x, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)):
                raise self._wrong(f"has a tensor {n}, for which {type(x).__name__} is given")
            if n in self._tensors or self._is_traced(n, x):
                tree[n] = signature.leaf(x, n)
            else:
                signature.sizes[n] = tuple(map(np.asarray, x)) if isinstance(x, tuple) else np.asarray(x)
        return Given((signature.key, signature.values), signature.operands, signature, tree)

    def _is_traced(self, name: str, x: Any) -> bool:
        """Whether a size is one that the run reads."""
        if not isinstance(x, (jax.Array, np.ndarray)) or (isinstance(x, np.ndarray) and x.ndim):
            return False
        if name not in self._symbols or x.ndim or not jnp.issubdtype(x.dtype, jnp.integer):
            raise self._wrong(f"has an axis {name}, for which an array of {x.dtype}{list(x.shape)} is given")
        return True

    def _wrong(self, what: str) -> TypeCheckError:
        return TypeCheckError(
            *("PTO155", f"workload {self.label} {what}"),
            values={"tensors": ", ".join(self._tensors), **self._program.bindings.axis_names()},
            loc=here(),
            fix="give arrays for the tensors that it uses, numbers or integer arrays of rank 0 for sizes, lists for lengths and indices",
        )

    def site(self, given: Given) -> Made:
        """The site of its signature. Raises BindError where arrays do not fit, or something has no value."""
        tensors = {n: s for n, s in given.signature.tensors.items() if n in self._tensors}
        sized = tuple(n for n in given.signature.operands if n not in tensors)
        symbols = tuple(self._symbols[n] for n in sized)
        program = self._with_lengths_checked(tensors)
        sizes = given.signature.sizes
        program.set_axis_sizes(
            {n: x.item() if isinstance(x, np.ndarray) and not x.ndim else x for n, x in sizes.items()}
        )
        bound = program.bindings
        fresh = self._fresh(program, given) | {n for n in given.signature.fresh if n in bound.types}
        arguments = tuple(n for n in self._tensors if n in tensors or n in fresh)
        bound.release(arguments)
        self._check_sizes(program, symbols)
        if not symbols:
            bound.check_control({n for n in self._tensors if n not in arguments})
        self._check_shapes(program, given, symbols)
        site = Site(program, arguments, frozenset(fresh), symbols, self._options)
        return site, (*site.operands, *sized), self._returns, True

    def _with_lengths_checked(self, operands: Iterable[str]) -> Program:
        """The program, in which lengths that are operands are checked where they are read."""
        bound = self._program.bindings
        wir = with_lengths_checked(bound.wir, operands)
        if wir is bound.wir:
            return self._program.copy()
        tensors: dict[str, TensorSpec] = {n: Tensor(a, name=n) for n, a in bound.arrays.items() if n not in operands}
        return Workload(wir, tensors, dict(bound.sizes)).compile(**self._options)

    def _fresh(self, program: Program, given: Given) -> set[str]:
        """The tensors that are left out and only written. Raises BindError for those of which a task reads something first."""
        wir, uses = program.bindings.wir, Uses()
        out = {n for n in self._tensors if n in program.bindings.written and n not in given.signature.tensors}
        for n in out:
            if not is_written_first(wir, uses, wir.body, n, {}):
                raise BindError(
                    *(
                        "PTO507",
                        f"tensor {n} of workload {self.label} is not given, and not all of it is written before it is read",
                    ),
                    loc=here(),
                    fix=f"give {n} an array, or a jax.ShapeDtypeStruct for zeros",
                )
        return out

    def _check_sizes(self, program: Program, sized: tuple[str, ...]) -> None:
        """What can be checked of sizes before those in `sized` are known."""
        bound = program.bindings
        missing = [n for n in bound.wir.symbols if n not in bound.sizes and n not in sized]
        if missing:
            raise BindError(
                *("PTO509", f"the size of {', '.join(missing)} is not bound"),
                values=bound.axis_names(),
                loc=here(),
                fix=f"{missing[0]}=...: a number, or an integer array of rank 0",
            )
        if sized and (bound.manifest["race_checks"] or bound.unproved):
            raise UnsupportedError(
                *(
                    "PTO881",
                    f"whether iterations of workload {self.label} may run at once depends on {', '.join(sized)}",
                ),
                loc=here(),
                fix="give numbers for the sizes",
            )

    def _check_shapes(self, program: Program, given: Given, sized: tuple[str, ...]) -> None:
        bound = program.bindings
        env = {"$" + n: size for n, size in bound.sizes.items() if n not in sized}
        for n, spec in given.signature.tensors.items():
            t = bound.types.get(n)
            if t is None:
                continue
            # dimensions that are not known yet are checked in the run
            want = [
                d.value(env) if d.names() <= env.keys() else have for d, have in zip(t.shape, spec.shape, strict=False)
            ]
            fits = len(t.shape) == len(spec.shape) and want == list(spec.shape)
            if t.dtype is not spec.dtype or not fits:
                raise BindError(
                    *("PTO503", f"argument {n} is {spec.dtype}{list(spec.shape)}, but workload {self.label} has {t}"),
                    values=bound.sizes,
                    loc=here(),
                    fix="give an array of this type, or other sizes",
                )
