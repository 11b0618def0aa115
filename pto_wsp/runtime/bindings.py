"""What a program is bound to: arrays, sizes, lengths, slots. Checked, and handed to the core, where they have changed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pto_wsp.artifact.artifact import Artifact
from pto_wsp.errors import BindError, here
from pto_wsp.ir.core import DataAxis, DType, Role, written_tensors
from pto_wsp.ir.dependence import refuse_races
from pto_wsp.ir.expr import Expr
from pto_wsp.ir.processes import pipelines
from pto_wsp.ir.tasks import slot_types
from pto_wsp.proofs.verdict import refuse_networks
from pto_wsp.runtime.data_axes import PARTS, at_address, check_values, hidden_tensors, integers
from pto_wsp.trace.tensor import Tensor, array_of, check_array

_SHARE_WORK: Any = 100_000  # candidate solutions; exact for the strides of real arrays
_RANGES = {DType.I64: (-(2**63), 2**63 - 1), DType.U64: (0, 2**64 - 1)}

Array = np.ndarray[Any, Any]


class Bindings:
    """The values of one program. `hand_over` gives the core what it lacks; nothing else knows about the core."""

    def __init__(self, artifact: Artifact, scratch: frozenset[str] = frozenset()) -> None:
        """`scratch`: tensors that users do not know; runs get zeros for them, as for results."""
        self.wir = artifact.wir
        self.manifest = artifact.manifest
        self.types = {v.name: self.wir.tensor_type(v.name) for v in self.wir.tensors}
        self.order = list(self.types)
        self._fixed = {n: [d.const if d.is_const else None for d in t.shape] for n, t in self.types.items()}
        self.written = written_tensors(self.wir)
        self.axes = {a.name: a for a in self.wir.axes}
        self.hidden = frozenset(t for a in self.wir.axes for t in hidden_tensors(a))
        self.slot_types = slot_types(self.wir)
        self.arrays: dict[str, Array] = {}
        self.sizes: dict[str, int] = dict(artifact.manifest["sizes"])
        self.slots: dict[int, int] = {}
        self.unproved: list[int] = artifact.manifest["unproved"]  # pipelines that are left to the run
        self.results: dict[str, Array] = {}
        self._scratch = scratch
        self._networks = bool(self.wir.symbols) and any(pipelines(self.wir))
        # the symbols that say how many indices a sparse axis has: as many as there are
        counts = {a.name: f"{a.name}.nnz" for a in self.wir.axes if a.kind == "Sparse"}
        self._counts = {a: symbol for a, symbol in counts.items() if symbol in self.wir.symbols}
        self._private = scratch | {n for n, t in self.types.items() if t.role is Role.TEMPORARY}
        self._axes_of = {t: [a for a in self.wir.axes if t in a.tensors] for t in self.order}
        self._changed: set[str] = set()  # tensors
        self._resized = self._reslotted = True
        self._outputs: list[tuple[Array, tuple[int, ...]]] = []

    @property
    def numbers(self) -> list[str]:
        """The symbols that users bind to numbers."""
        return [n for n in self.wir.symbols if n not in self._counts.values()]

    def copy_to(self, other: Bindings) -> None:
        other.arrays = dict(self.arrays)
        other.sizes = dict(self.sizes)
        other.slots = dict(self.slots)
        other._changed = set(other.arrays)

    def release(self, tensors: Iterable[str]) -> None:
        """Forget the arrays of these tensors."""
        for n in tensors:
            self.arrays.pop(n, None)
            self._changed.discard(n)

    # taking values

    def bind(self, tensors: Mapping[str, Any]) -> None:
        """Arrays by tensor name, by reference; values of hidden tensors, copied."""
        new: dict[str, Array] = {}
        for name, x in tensors.items():
            if name not in self.types or name in self._private:
                can = [n for n in self.order if n not in self._private]
                raise BindError(
                    *("PTO508", f"there is no tensor {name!r}"),
                    values={"tensors": ", ".join(can)},
                    loc=here(),
                    fix="use the names of the workload's tensors",
                )
            data = x.data if isinstance(x, Tensor) else x
            if name in self.hidden:
                new[name] = integers(data, f"the values of {name}")
            else:
                new[name] = array_of(data, f"tensor {name}")
                self._check(name, new[name])
        self._take_axes(new)

    def _take_axes(self, new: Mapping[str, Array]) -> None:
        """Take arrays, of which those of data axes are checked as far as that needs no others."""
        for axis in {a.name: a for t in new for a in self._axes_of[t]}.values():
            self._check_axis(axis, new, {})
        self.arrays.update(new)
        self._changed |= set(new)
        for axis, symbol in self._counts.items():
            indices = self.axes[axis].tensors[1]
            if indices in new:
                self._set_size(symbol, len(new[indices]))

    def _set_size(self, name: str, size: int) -> None:
        if self.sizes.get(name) != size:
            self.sizes[name] = size
            self._resized = True

    def set_axis_sizes(self, sizes: Mapping[str, Any]) -> None:
        axes: dict[str, Any] = self.manifest["axes"]
        new: dict[str, int] = {}
        arrays: dict[str, Array] = {}
        for name, size in sizes.items():
            if name in self.axes:
                arrays |= self._values_of(self.axes[name], size)
                continue
            symbol = axes.get(name, "$" + name if name in self.wir.symbols else None)
            if symbol is None:
                raise self._unknown("axis", name, "use the name of a dynamic axis")
            if isinstance(symbol, int):
                raise BindError(
                    *("PTO510", f"axis {name!r} is static"),
                    values={name: symbol},
                    loc=here(),
                    fix="declare it DenseDyn to change its size",
                )
            new[symbol[1:]] = _size(name, size)
        self._take_axes(arrays)
        for name, n in new.items():
            self._set_size(name, n)

    def _values_of(self, axis: DataAxis, given: Any) -> dict[str, Array]:
        """The tensors of a ragged axis for its lengths, of a sparse one for (indptr, indices)."""
        parts = PARTS[axis.kind]
        pair = isinstance(given, (tuple, list)) and len(given) == 2
        if len(parts) == 2 and not pair:
            raise BindError(
                *("PTO705", f"sparse axis {axis.name} takes a pair"),
                values={"got": repr(given)[:80]},
                loc=here(),
                fix=f'set_axis_sizes({{"{axis.name}": (indptr, indices)}})',
            )
        values = tuple(given) if len(parts) == 2 else (given,)
        out: dict[str, Array] = {}
        for part, tensor, value in zip(parts, axis.tensors, values, strict=True):
            out[tensor] = self._own(tensor, integers(value, f"the {part} of axis {axis.name}"))
        return out

    def _own(self, tensor: str, values: Array) -> Array:
        """Values for a tensor that is not hidden, in the dtype it was declared with."""
        if tensor in self.written:
            raise BindError(
                *("PTO516", f"{tensor} is a tensor that tasks write"),
                loc=here(),
                fix=f'the run computes its values; program.bind({{"{tensor}": array}}) gives it memory',
            )
        out = values.astype(self.types[tensor].dtype.numpy, copy=False)
        if out is not values and not np.array_equal(out, values):
            raise BindError(
                *("PTO511", f"values of {tensor} do not fit {self.types[tensor].dtype}"),
                loc=here(),
                fix="give integers that its dtype holds",
            )
        return out

    def set_symbol_u64(self, name: str, value: object) -> None:
        if name in self.types:
            raise BindError(
                *("PTO516", f"symbol {name!r} is an array of integers, not a number"),
                values={name: self.types[name]},
                loc=here(),
                fix=f'program.set_symbol_ptr("{name}", array)',
            )
        if name not in self.wir.symbols:
            raise self._unknown("symbol", name, "use the name of a symbol")
        self._set_size(name, _size(name, value))

    def set_symbol_ptr(self, name: str, data: object, size: object, dtype: object, unsafe: object) -> None:
        if name in self.wir.symbols:
            raise BindError(
                *("PTO516", f"symbol {name!r} is a number, not an array"),
                loc=here(),
                fix=f'program.set_symbol_u64("{name}", value)',
            )
        if not self._axes_of.get(name):
            raise self._unknown("symbol", name, "use the name of a symbol that gives an axis its values")
        what = f"the values of {name}"
        array = at_address(data, name, size, dtype, unsafe) if isinstance(data, int) else data
        self._take_axes({name: self._own(name, integers(array, what))})

    def set_slot(self, slot: object, value: object) -> None:
        number = isinstance(slot, (int, np.integer)) and not isinstance(slot, bool)
        dtype = self.slot_types.get(int(slot)) if number else None  # type: ignore[call-overload]
        if dtype is None:
            used = [f"{i}: {d}" for i, d in sorted(self.slot_types.items())]
            raise BindError(
                *("PTO517", f"the workload has no slot {slot!r}"),
                values={"slots": ", ".join(used) or "none"},
                loc=here(),
                fix="use a slot that the workload reads",
            )
        self.slots[int(slot)] = _slot_bits(int(slot), dtype, value)  # type: ignore[call-overload]
        self._reslotted = True

    def _unknown(self, what: str, name: str, fix: str) -> BindError:
        return BindError("PTO510", f"there is no {what} {name!r}", values=self.axis_names(), loc=here(), fix=fix)

    def axis_names(self) -> dict[str, object]:
        """What there is to be bound, for messages."""
        axes: dict[str, Any] = self.manifest["axes"]
        dynamic = [n for n, s in axes.items() if isinstance(s, str)]
        by_kind = {k: [a.name for a in self.wir.axes if a.kind == k] for k in PARTS}
        return {
            "dynamic axes": ", ".join(dynamic) or "none",
            "static axes": ", ".join(n for n in axes if n not in dynamic) or "none",
            **{f"{k.lower()} axes": ", ".join(names) for k, names in by_kind.items() if names},
            "symbols": ", ".join(self.numbers) or "none",
        }

    # checks

    def _check(self, name: str, array: Array) -> None:
        t = self.types[name]
        check_array(array, t.dtype, f"tensor {name}")
        declared = self._fixed[name]
        if array.ndim != len(declared) or any(
            n is not None and n != m for n, m in zip(declared, array.shape, strict=True)
        ):
            raise BindError(
                *("PTO503", f"tensor {name} has shape {list(array.shape)}, but is declared {t}"),
                loc=here(),
                fix="give an array of the declared shape",
            )
        if name not in self.written:
            return
        if _overlaps_itself(array):
            raise BindError(
                *("PTO512", f"tensor {name} is written, but elements of its array share storage"),
                values={"shape": list(array.shape), "strides": list(array.strides)},
                loc=here(),
                fix="give an array whose elements are distinct, such as array.copy()",
            )
        if not array.flags.writeable:
            raise BindError(
                *("PTO505", f"tensor {name} is written, but its array is read-only"),
                values={name: t},
                loc=here(),
                fix="give a writable array, such as array.copy()",
            )

    def _check_axis(self, axis: DataAxis, arrays: Mapping[str, Array], env: Mapping[str, int]) -> None:
        given = {t: arrays[t] for t in axis.tensors if t not in self.written and t in arrays}
        check_values(axis, given, _known(axis.outer, env), _known(axis.inner, env))

    def _missing(self, needed: set[str]) -> None:
        unbound = [n for n in self.order if n in needed and n not in self.arrays]
        values = [n for n in unbound if self._axes_of[n]]
        if values:
            axis = self._axes_of[values[0]][0]
            raise BindError(
                *("PTO509", f"axis {axis.name} has no values: {', '.join(values)} is not bound"),
                values=self.axis_names(),
                loc=here(),
                fix=f'program.set_axis_sizes({{"{axis.name}": ...}}), or program.set_symbol_ptr("{values[0]}", array)',
            )
        missing = [n for n in self.wir.symbols if n not in self.sizes]
        if missing:
            raise BindError(
                *("PTO509", f"the size of {', '.join(missing)} is not bound"),
                values=self.axis_names(),
                loc=here(),
                fix=f'program.set_axis_sizes({{"{missing[0]}": ...}})'
                if "$" + missing[0] in self.manifest["axes"].values()
                else f'program.set_symbol_u64("{missing[0]}", ...)',
            )
        if unbound:
            raise BindError(
                *("PTO507", f"tensor {', '.join(unbound)} has no array"),
                values={unbound[0]: self.types[unbound[0]]},
                loc=here(),
                fix=f'program.bind({{"{unbound[0]}": array}})',
            )

    def _check_shapes(self, names: set[str], env: Mapping[str, int]) -> None:
        for name in (n for n in self.order if n in names):
            want = tuple(d.value(env) for d in self.types[name].shape)
            have = self.arrays[name].shape
            if have != want:
                raise BindError(
                    *("PTO503", f"tensor {name} has shape {list(have)}, but with these sizes is {list(want)}"),
                    values={name: self.types[name], **self.sizes},
                    loc=here(),
                    fix="bind an array of this shape, or other sizes",
                )

    def _check_sharing(self, names: set[str]) -> None:
        bound = [n for n in self.order if n in self.arrays]
        for k, a in enumerate(bound):
            for b in bound[k + 1 :]:
                matters = (a in names or b in names) and (a in self.written or b in self.written)
                if matters and _share(self.arrays[a], self.arrays[b]):
                    raise BindError(
                        *("PTO506", f"tensors {a} and {b} share storage, and one of them is written"),
                        loc=here(),
                        fix="use one Tensor and views of it (X[...]), or copy one array",
                    )

    def check_control(self, needed: set[str]) -> None:
        """Raise BindError where a size is missing, an array of `needed`, or where what is bound does not fit together."""
        self._missing(needed)
        env = {"$" + n: v for n, v in self.sizes.items()}
        for axis in self.wir.axes:
            self._check_axis(axis, self.arrays, env)
        self._check_shapes(set(self.arrays), env)
        self._refuse_by_sizes()

    def _refuse_by_sizes(self) -> None:
        """Raise for what sizes decide: iterations and processes that touch common elements, and processes that wait for ever."""
        if self.manifest["race_checks"]:
            refuse_races(self.wir, self.sizes)
        if self._networks:
            self.unproved = refuse_networks(self.wir, self.sizes)

    # handing over

    def hand_over(self, run: Any) -> None:
        """Check what only all bindings together show, and give `run`, an instance of the core, what has changed."""
        changed = set(self._changed)
        # an array can be made read-only, or get another shape, after it was bound
        if any(a.shape != shape or not a.flags.writeable for a, shape in self._outputs):
            changed |= set(self.arrays)
        env = {"$" + n: v for n, v in self.sizes.items()}
        if changed or self._resized:
            self._missing({n for n, t in self.types.items() if t.role is Role.GIVEN} - self._scratch)
            for name in changed - self.hidden:
                self._check(name, self.arrays[name])
        self._check_axes(changed, env)
        if changed or self._resized:
            self._check_shapes(set(self.arrays) if self._resized else changed, env)
            self._check_sharing(changed)
        if self._resized:
            self._refuse_by_sizes()
            run.set_symbols([self.sizes[n] for n in self.wir.symbols])
        for name in changed:
            self._give(run, name, self.arrays[name])
        if self._reslotted and self.slot_types:
            run.set_slots([(i, self.slots.get(i, 0)) for i in self.slot_types])
        self._make_results(run, env)
        self._outputs = [
            (self.arrays[n], self.arrays[n].shape) for n in self.order if n in self.written & set(self.arrays)
        ]
        self._changed.clear()
        self._resized = self._reslotted = False

    def _check_axes(self, changed: set[str], env: Mapping[str, int]) -> None:
        """Values are looked at again where they, or the sizes they must fit, may have changed."""
        for axis in self.wir.axes:
            own = all(t in self.hidden for t in axis.tensors)
            if self._resized or not own or not changed.isdisjoint(axis.tensors):
                self._check_axis(axis, self.arrays, env)

    def _give(self, run: Any, name: str, a: Array) -> None:
        dtype = self.types[name].dtype.code
        run.bind(self.order.index(name), a.ctypes.data, list(a.shape), list(a.strides), dtype, bool(a.flags.writeable))

    def _make_results(self, run: Any, env: Mapping[str, int]) -> None:
        """New arrays of zeros for results that the user has given none for."""
        self.results = {}
        for name, t in self.types.items():
            if t.role is not Role.RESULT and name not in self._scratch:
                continue
            if name in self.arrays:
                self.results[name] = self.arrays[name]
                continue
            made = self.results[name] = np.zeros([d.value(env) for d in t.shape], t.dtype.numpy)
            self._give(run, name, made)


def _known(e: Expr | None, env: Mapping[str, int]) -> int | None:
    return e.value(env) if e is not None and e.names() <= env.keys() else None


def _size(name: str, size: object) -> int:
    if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise BindError("PTO511", f"the size of {name} is {size!r}", loc=here(), fix="give an integer of 0 .. 2^63 - 1")
    return int(size)


def _slot_bits(slot: int, dtype: DType, value: object) -> int:
    """The 64 bits of a slot's value. Raises BindError for what its type does not hold."""
    kinds: dict[DType, tuple[type, ...]] = {DType.BOOL: (bool, np.bool_), DType.F64: (int, float, np.number)}
    wanted = kinds.get(dtype, (int, np.integer))
    low, high = _RANGES.get(dtype, (0, 0))
    ok = isinstance(value, wanted) and (dtype is DType.BOOL or not isinstance(value, (bool, np.bool_)))
    if not ok or (dtype in _RANGES and not low <= int(value) <= high):  # type: ignore[call-overload]
        raise BindError(
            *("PTO517", f"slot {slot} holds {dtype}, not {value!r}"),
            loc=here(),
            fix=f"give a value of type {dtype}",
        )
    if dtype is DType.F64:
        return int.from_bytes(struct.pack("<d", float(value)), "little")  # type: ignore[arg-type]
    return int(value) % 2**64  # type: ignore[call-overload]


def _overlaps_itself(a: Array) -> bool:
    """Whether two indices of `a` mean a common byte."""
    if a.size <= 1 or a.flags.c_contiguous:
        return False
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if not stride:
            return True
        if stride < reach:
            # not nested dimensions: decide by looking at every element's address
            grids = np.indices(a.shape, dtype=np.int64).reshape(a.ndim, -1)
            offsets = np.sort(np.asarray(a.strides, dtype=np.int64) @ grids)
            return bool((np.diff(offsets) < a.itemsize).any())
        reach += stride * (n - 1)
    return False


def _share(a: Array, b: Array) -> bool:
    """Whether two arrays have a byte in common; counted as shared where that would take long to find out."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=_SHARE_WORK))
    except np.exceptions.TooHardError:
        return True
