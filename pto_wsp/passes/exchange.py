"""What collectives do, as tasks of one machine that has the parts of all devices: tensors whose first dimensions are the axes of the mesh.

    before:  allreduce[axes=["x"]] y z                                   y, z: f32[64,128] of each of two devices
    after:   parallel_for device.x in device.x: Dense(2) {               y, z: f32[2,64,128]
               parallel_for tile.0 in tile.0: Tiles(64, 32) {
                 parallel_for tile.1 in tile.1: Tiles(128, 128) {
                   task add[device.x, tile.0, tile.1](a=y[0, tile(tile.0, 32, 64), ...], b=y[1, ...], out=z[device.x, ...])
                 }
               }
             }

Of more devices one after another is added, in the order of their coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from pto_wsp.errors import Location
from pto_wsp.ir.collectives import operands, reduced_axes
from pto_wsp.ir.core import (
    ZERO,
    At,
    Axis,
    DType,
    Eqn,
    IndexType,
    Kernel,
    Region,
    Role,
    Slice,
    TensorType,
    TileAt,
    Var,
    View,
    ViewDim,
)
from pto_wsp.ir.expr import Expr, const, var
from pto_wsp.ir.layout import Mesh, Move, TensorLayout, moves
from pto_wsp.ir.rename import unique_name
from pto_wsp.ir.text import parse_kernel

ROWS, COLS = 32, 512
"""Of the tiles that are copied and added."""
OPERATIONS = {"sum": "add", "max": "maximum", "min": "minimum"}
Coordinates = Mapping[str, Expr]
Offsets = Mapping[int, Expr]
"""Where a part begins, by dimension; where none is given, at the start."""
Tile = Sequence[tuple[Expr, int, Expr]]
"""Of each dimension which tile, of how many elements, of how many in all."""


@dataclass
class Names:
    """The names that a workload has, and the kernels and temporaries that it gets."""

    variables: set[str]
    tensors: dict[str, TensorType]
    kernels: dict[str, Kernel]
    _made: dict[str, str] = field(default_factory=dict[str, str])  # kernels by text

    def variable(self, wanted: str) -> str:
        name = unique_name(wanted, self.variables)
        self.variables.add(name)
        return name

    def temporary(self, wanted: str, t: TensorType) -> str:
        name = unique_name(wanted, self.tensors)
        self.tensors[name] = t
        return name

    def kernel(self, label: str, params: str, body: str) -> str:
        """The name of the kernel, which is there once."""
        text = f'"{label}" ({params}) {{\n{body}\n}}'
        if text not in self._made:
            name = self._made[text] = unique_name(label, self.kernels)
            self.kernels[name] = parse_kernel(f'kernel "{name}" {text}')
        return self._made[text]


def on_devices(names: Names, mesh: Mesh, axes: Sequence[str], body: Callable[[Coordinates], Sequence[Eqn]]) -> Eqn:
    """A loop over the devices along each of these axes."""
    variables = [names.variable(f"device.{a}") for a in axes]
    inside = tuple(body({a: var(v) for a, v in zip(axes, variables, strict=True)}))
    for a, v in reversed(list(zip(axes, variables, strict=True))):
        inside = (loop(v, Axis("Dense", f"device.{a}", const(mesh.shape[a])), inside),)
    return inside[0]


def loop(name: str, axis: Axis, body: tuple[Eqn, ...]) -> Eqn:
    """A parallel loop."""
    return Eqn("parallel_for", params={"axis": axis, "loop": name}, regions=(Region((Var(name, IndexType()),), body),))


@dataclass(frozen=True)
class Parts:
    """A tensor of which all devices' parts are there, the axes of the mesh in front, or a whole one, whose parts lie as its layout says."""

    name: str
    mesh: Mesh
    shape: tuple[Expr, ...]  # of a part
    whole: TensorLayout | None = None

    def view(self, device: Coordinates, tile: Tile, offsets: Offsets) -> View:
        """The tile of a device's part."""
        start = [offsets.get(k, ZERO) for k in range(len(self.shape))]
        if self.whole is not None:
            start = [s + begin(self.whole, device, k, self.shape[k]) for k, s in enumerate(start)]
        dims = [_dim(s, *t) for s, t in zip(start, tile, strict=True)]
        coords: list[ViewDim] = [] if self.whole is not None else [At(device[a]) for a in self.mesh.shape]
        if len(dims) < 2 and coords and isinstance(last := coords[-1], At):  # a tile has two dimensions
            coords[-1] = Slice(last.index, 1)
        return View(self.name, (*coords, *dims))

    @property
    def is_line(self) -> bool:
        """Whether it is a whole tensor of one dimension, of which kernels see a region: a tile has two."""
        return self.whole is not None and len(self.shape) == 1


def begin(layout: TensorLayout, device: Coordinates, dim: int, extent: Expr) -> Expr:
    """Where a device's part, of this extent, of a dimension begins in the whole."""
    at = ZERO
    for a in layout.dims[dim].axes:
        at = at * layout.mesh.shape[a] + device[a]
    return at * extent


def _dim(start: Expr, index: Expr, size: int, extent: Expr) -> ViewDim:
    return At(start + index) if size == 0 else TileAt(index, size, start + extent, start)


class Exchange:
    """Writes down what devices hand to each other."""

    def __init__(self, names: Names, mesh: Mesh, loc: Location | None = None) -> None:
        self.names, self.mesh, self.loc = names, mesh, loc

    def collective(self, eqn: Eqn, source: TensorType, target: TensorType) -> list[Eqn]:
        """The equations of a collective, of tensors whose types are those of a device."""
        a, b = operands(eqn)
        x, y = Parts(a.name, self.mesh, source.shape), Parts(b.name, self.mesh, target.shape)
        here, there = source.layout, target.layout
        assert here is not None and there is not None
        match eqn.prim:
            case "allreduce":
                axes = reduced_axes(eqn)
                return [self.reduce(x, y, target.dtype, axes, here.pending[axes[0]], {})]
            case "reduce_scatter":
                axis, dim = str(eqn.params["axis"]), eqn.params["dim"]
                assert isinstance(dim, int)
                return [self.reduce(x, y, target.dtype, (axis,), here.pending[axis], {dim: axis})]
            case _:
                return self.move(x, y, target.dtype, moves(here, there))

    def reduce(
        self, x: Parts, y: Parts, dtype: DType, axes: Sequence[str], op: str, scattered: Mapping[int, str]
    ) -> Eqn:
        """y, on every device, of the parts of all devices along `axes`, of which each takes its part of the dimensions in `scattered`."""
        grid = list(product(*(range(self.mesh.shape[a]) for a in axes)))
        prim = OPERATIONS[op]

        def tasks(device: Coordinates, tile: Tile, coords: tuple[Expr, ...]) -> list[Eqn]:
            offsets = {dim: device[a] * y.shape[dim] for dim, a in scattered.items()}

            def of(place: Sequence[int]) -> View:
                there = {**device, **{a: const(n) for a, n in zip(axes, place, strict=True)}}
                return x.view(there, tile, offsets)

            out = y.view(device, tile, {})
            if len(grid) == 1:
                return [self.task(self.copy(dtype, tile), coords, of(grid[0]), out)]
            first = self.task(self.combine(prim, dtype, tile), coords, of(grid[0]), of(grid[1]), out)
            more = self.accumulate(prim, dtype, tile) if len(grid) > 2 else ""
            return [first, *(self.task(more, coords, of(place), out) for place in grid[2:])]

        return self.each(y, tasks)

    def move(self, x: Parts, y: Parts, dtype: DType, steps: Sequence[Move]) -> list[Eqn]:
        """y of the elements of x, one step after another."""
        out: list[Eqn] = []
        for k, step in enumerate(steps or [None]):
            to = y
            if step is not None and k < len(steps) - 1:
                shape = self._moved(x.shape, step)
                mesh_dims = tuple(const(n) for n in self.mesh.shape.values())
                name = self.names.temporary(f"{y.name}.step", TensorType(dtype, (*mesh_dims, *shape), Role.TEMPORARY))
                to = Parts(name, self.mesh, shape)
            out += self.copy_all(x, to, dtype) if step is None else self._step(x, to, dtype, step)
            x = to
        return out

    def _moved(self, shape: tuple[Expr, ...], step: Move) -> tuple[Expr, ...]:
        kind, axis, dim, to = step
        n, new = self.mesh.shape[axis], list(shape)
        if kind != "slice":
            new[dim] = new[dim] * n
        if kind != "allgather":
            new[to] = const(new[to].const // n)
        return tuple(new)

    def _step(self, x: Parts, y: Parts, dtype: DType, step: Move) -> list[Eqn]:
        kind, axis, dim, to = step
        if kind == "slice":
            return [self.each(y, lambda device, tile, coords: [
                self.task(self.copy(dtype, tile), coords, x.view(device, tile, {to: device[axis] * y.shape[to]}), y.view(device, tile, {}))
            ])]  # fmt: skip
        box = tuple(n if k == dim else m for k, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)))

        def tasks(device: Coordinates, tile: Tile, coords: tuple[Expr, ...]) -> list[Eqn]:
            kernel, out = self.copy(dtype, tile), list[Eqn]()
            for j in range(self.mesh.shape[axis]):
                theirs = {to: device[axis] * y.shape[to]} if kind == "alltoall" else {}
                part = x.view({**device, axis: const(j)}, tile, theirs)
                out.append(self.task(kernel, coords, part, y.view(device, tile, {dim: x.shape[dim] * j})))
            return out

        return [self.each(replace(y, shape=box), tasks)]

    def copy_all(self, x: Parts, y: Parts, dtype: DType, devices: Sequence[str] | None = None) -> list[Eqn]:
        """y of the same parts of x, on the devices along these axes: all, or the first along the others."""
        some = list(self.mesh.shape) if devices is None else devices

        def tasks(device: Coordinates, tile: Tile, coords: tuple[Expr, ...]) -> list[Eqn]:
            copy = self.copy_line if x.is_line else self.copy_to_line if y.is_line else self.copy
            return [self.task(copy(dtype, tile), coords, x.view(device, tile, {}), y.view(device, tile, {}))]

        return [self.each(y, tasks, some)]

    # loops, kernels and tasks

    def each(
        self,
        box: Parts,
        tasks: Callable[[Coordinates, Tile, tuple[Expr, ...]], list[Eqn]],
        devices: Sequence[str] | None = None,
    ) -> Eqn:
        """The tasks of each tile of a part, on each device."""
        axes = list(self.mesh.shape) if devices is None else list(devices)
        sizes = [*[0] * (len(box.shape) - 2), ROWS, COLS][-len(box.shape) :] if box.shape else []
        tiles = [
            (self.names.variable(f"tile.{k}"), _tile(n, size), n)
            for k, (n, size) in enumerate(zip(box.shape, sizes, strict=True))
        ]

        def inside(device: Coordinates) -> tuple[Eqn, ...]:
            everywhere = {a: device.get(a, ZERO) for a in self.mesh.shape}
            coords = (*device.values(), *(var(v) for v, _, _ in tiles))
            body = tuple(tasks(everywhere, [(var(v), size, n) for v, size, n in tiles], coords))
            for v, size, n in reversed(tiles):
                kind = "Tiles" if size else "Dense" if n.is_const else "DenseDyn"
                body = (loop(v, Axis(kind, v, n, max(size, 1)), body),)
            return body

        if not axes:
            (only,) = inside({})
            return only
        return on_devices(self.names, self.mesh, axes, inside)

    def task(self, kernel: str, coords: tuple[Expr, ...], *ins: View) -> Eqn:
        mapped = tuple(range(len(coords)))
        return Eqn("task", (), ins, {"kernel": kernel, "coords": coords, "mapped": mapped}, loc=self.loc)

    def copy(self, dtype: DType, tile: Tile) -> str:
        memory, value = _types(dtype, tile)
        return self.names.kernel(
            "copy", f"x: in {memory}, out: out {memory}", f"  a: {value('x')} = load x\n  store out a"
        )

    def copy_line(self, dtype: DType, tile: Tile) -> str:
        """Of a tensor of one dimension."""
        memory, _ = _types(dtype, tile)
        ((_, n, _),) = tile
        body = f"""  a: i64 = dim[of="x.0"]
  b: i64 = s.min a {n}:i64
  c: {dtype}<1x{n} of 1 x b> = load_part[cols={n}, rows=1, vcols="b", vrows=1] x 0:i64
  store out c"""
        return self.names.kernel("copy", f"x: in {dtype}[*], out: out {memory}", body)

    def copy_to_line(self, dtype: DType, tile: Tile) -> str:
        """To a tensor of one dimension."""
        memory, value = _types(dtype, tile)
        return self.names.kernel(
            "copy", f"x: in {memory}, out: inout {dtype}[*]", f"  a: {value('x')} = load x\n  store_part out a 0:i64"
        )

    def combine(self, prim: str, dtype: DType, tile: Tile) -> str:
        memory, value = _types(dtype, tile)
        body = f"  c: {value('a')} = load a\n  d: {value('b')} = load b\n  e: {value('a')} = {prim} c d\n  store out e"
        return self.names.kernel(prim, f"a: in {memory}, b: in {memory}, out: out {memory}", body)

    def accumulate(self, prim: str, dtype: DType, tile: Tile) -> str:
        memory, value = _types(dtype, tile)
        body = f"  c: {value('out')} = load out\n  d: {value('x')} = load x\n  e: {value('out')} = {prim} c d\n  store out e"
        return self.names.kernel(f"{prim}_to", f"x: in {memory}, out: inout {memory}", body)


def _tile(extent: Expr, size: int) -> int:
    """0 for an index."""
    return min(size, max(extent.const, 1)) if extent.is_const else size


def _types(dtype: DType, tile: Tile) -> tuple[str, Callable[[str], str]]:
    """The type of a kernel's parameters, and that of what it loads from one, as text."""
    sizes = [1, 1, *(size for _, size, _ in tile if size)]
    rows, cols = sizes[-2:]
    return f"{dtype}<{rows}x{cols}>", lambda x: f"{dtype}<{rows}x{cols} of {x}.rows x {x}.cols>"
