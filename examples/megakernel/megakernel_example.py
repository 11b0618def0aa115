"""A whole decode step of a model as Llama has them, as one pipeline: a loader, a computer and a storer.

One token passes all layers. Nearly all of the work is to bring what it meets, weights and cached keys and values, from memory: each
number is used once. All of that comes in tiles of one size, in the order in which it is needed. The loader copies tile after tile
into buffers, the computer takes them; whenever the computer does what needs no tile (norms, rotations, softmax), and from layer to
layer, the loader is already at what comes next, as far ahead as there are buffers. The storer writes back the new keys, values and
logits. The same kernel calls one after another, without channels, are the reference bit for bit. README.md has the cycles.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pto_wsp import (
    Channel,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Tensor,
    Workload,
    connect,
    empty,
    item,
    kernel,
    process,
    pto,
    send,
    workload,
)
from pto_wsp.tools.bounds import Array, Estimate, U, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

LAYERS, HEADS, KV_HEADS, DIM, FFN, LENGTH, VOCABULARY = 4, 8, 2, 128, 2816, 2048, 4096
SIZES = (LAYERS, HEADS, KV_HEADS, DIM, FFN, LENGTH, VOCABULARY)
DEPTHS = (1, 2, 8)
EPS, BASE = 1e-5, 10_000.0
ARCH = "ascend_a2a3"
F32 = DType.F32
CYCLES = {
    "in turn": 9_284_010,
    "depth 1": 9_239_772,
    "depth 2": 5_617_938,
    "depth 8": 5_613_646,
    "depth 8 by layer": 5_631_490,
}


@kernel
def load(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)


@kernel
def store(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x)


@kernel
def reshape(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.reshape(x, out.shape))


@kernel
def zero(out: Out[Tensor]):
    pto.store(out, pto.full(out.shape, 0.0))


@kernel
def norm(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rmsnorm(x, weight, EPS))


@kernel
def add_product(x: In[Tensor], w: In[Tensor], out: InOut[Tensor]):
    pto.store(out, pto.matmul(x, w, acc=out))


@kernel
def rotate(x: In[Tensor], cos: In[Tensor], sin: In[Tensor], out: Out[Tensor]):
    """x [1, heads * dim]: element i of the first half of a head and element i of the second turn with the position."""
    half = cos.shape[1]
    y = pto.reshape(x, (x.shape[1] // (2 * half), 2 * half))
    a, b = pto.slice(y, cols=(0, half)), pto.slice(y, cols=(half, 2 * half))
    pto.store(out, pto.reshape(pto.concat(a * cos - b * sin, b * cos + a * sin), out.shape))


@kernel
def score(q: In[Tensor], k: In[Tensor], out: Out[Tensor]):
    """q [group, dim], k [positions, dim], out [group, positions]."""
    pto.store(out, pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(q.shape[1])))


@kernel
def softmax(x: InOut[Tensor]):
    pto.store(x, pto.softmax(x))


@kernel
def swiglu(gate: InOut[Tensor], up: In[Tensor]):
    pto.store(gate, pto.silu(gate) * up)


Fetch = Callable[[Any], Any]
"""Gives the tile that a view is of, in a buffer."""
Keep = Callable[[Any, Any], None]
"""Brings a row of a tile's width to where it belongs."""


@dataclass
class Model:
    """Arrays, or tensors in a workload. `side` is that of the tiles: kv_heads * dim; it divides hidden = heads * dim, ffn, the
    length and the vocabulary. Position `length` of the cache, the last, is the new token's."""

    token: Any  # [1]
    embedding: Any  # [vocabulary, hidden]
    cos: Any  # [1, dim / 2]
    sin: Any
    cache: Any  # [layers, keys and values, length + 1, side]
    norm1: Any  # [layers, 1, hidden]
    wq: Any  # [layers, hidden, hidden]
    wk: Any  # [layers, hidden, side]
    wv: Any
    wo: Any  # [layers, hidden, hidden]
    norm2: Any  # [layers, 1, hidden]
    w1: Any  # [layers, hidden, ffn]
    w3: Any
    w2: Any  # [layers, ffn, hidden]
    norm3: Any  # [1, hidden]
    head: Any  # [hidden, vocabulary]
    logits: Any  # [1, vocabulary]

    def named(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def layers(self) -> int:
        return self.cache.shape[0]

    @property
    def length(self) -> int:
        return self.cache.shape[2] - 1

    @property
    def side(self) -> int:
        return self.cache.shape[3]

    @property
    def hidden(self) -> int:
        return self.embedding.shape[1]

    @property
    def dim(self) -> int:
        return 2 * self.cos.shape[1]

    def streamed(self, layer: Any) -> tuple[Any, ...]:
        """The matrices of a layer in the order in which their tiles are needed."""
        keys, values = (self.cache[layer, i, : self.length] for i in range(2))
        wq, wk, wv, wo, w1, w3, w2 = (w[layer] for w in (self.wq, self.wk, self.wv, self.wo, self.w1, self.w3, self.w2))
        return wq, wk, keys, wv, values, wo, w1, w3, w2


def part(k: Any, size: int) -> slice:
    return slice(k * size, (k + 1) * size)


def down(w: Any, j: Any, side: int) -> Iterator[tuple[slice, Any]]:
    """Column j of the tiles of a matrix: their rows, and views."""
    for k in P.seq(w.shape[0] // side):
        rows = part(k, side)
        yield rows, w[rows, part(j, side)]


def zeros(*shape: int) -> Any:
    made = empty(shape, F32)
    zero(out=made)
    return made


def normalised(x: Any, weight: Any) -> Any:
    y = empty(x.shape, F32)
    norm(x=x, weight=weight, out=y)
    return y


def add_column(x: Any, w: Any, j: Any, out: Any, fetch: Fetch) -> None:
    """out += x w for column j of the tiles of w."""
    for rows, view in down(w, j, out.shape[1]):
        add_product(x=x[:, rows], w=fetch(view), out=out)


def add_all(x: Any, w: Any, out: Any, side: int, fetch: Fetch) -> Any:
    for j in P.seq(w.shape[1] // side):
        add_column(x, w, j, out[:, part(j, side)], fetch)
    return out


def attention(m: Model, layer: Any, x: Any, fetch: Fetch, keep: Keep) -> Any:
    """Of the normalised x, over the cached positions and the new one; [1, hidden] before the projection back."""
    wq, wk, keys, wv, values, *_ = m.streamed(layer)
    heads = m.hidden // m.dim
    groups = [(part(g, heads * m.dim // m.side), part(g, m.dim)) for g in range(m.side // m.dim)]  # heads, columns
    q, k = empty((heads, m.dim), F32), empty((1, m.side), F32)
    rotate(x=add_all(x, wq, zeros(1, m.hidden), m.side, fetch), cos=m.cos, sin=m.sin, out=q)
    rotate(x=add_all(x, wk, zeros(1, m.side), m.side, fetch), cos=m.cos, sin=m.sin, out=k)
    s, out, new = empty((heads, m.length + 1), F32), zeros(heads, m.dim), slice(m.length, m.length + 1)
    for rows, view in down(keys, 0, m.side):
        tile = fetch(view)
        for of, cols in groups:
            score(q=q[of], k=tile[:, cols], out=s[of, rows])
    for of, cols in groups:
        score(q=q[of], k=k[:, cols], out=s[of, new])
    keep(k, m.cache[layer, 0, new])
    v = add_all(x, wv, zeros(1, m.side), m.side, fetch)
    softmax(x=s)
    for rows, view in down(values, 0, m.side):
        tile = fetch(view)
        for of, cols in groups:
            add_product(x=s[of, rows], w=tile[:, cols], out=out[of])
    for of, cols in groups:
        add_product(x=s[of, new], w=v[:, cols], out=out[of])
    keep(v, m.cache[layer, 1, new])
    flat = empty((1, m.hidden), F32)
    reshape(x=out, out=flat)
    return flat


def embedded(m: Model) -> Any:
    h, token = empty((1, m.hidden), F32), item(m.token[0])
    load(x=m.embedding[token : token + 1], out=h)
    return h


def add_layer(m: Model, layer: Any, h: Any, fetch: Fetch, keep: Keep) -> None:
    """h += attention, h += feed forward."""
    *_, wo, w1, w3, w2 = m.streamed(layer)
    attended = attention(m, layer, normalised(h, m.norm1[layer]), fetch, keep)
    add_all(attended, wo, h, m.side, fetch)
    x = normalised(h, m.norm2[layer])
    gate, up = (add_all(x, w, zeros(1, w.shape[1]), m.side, fetch) for w in (w1, w3))
    swiglu(gate=gate, up=up)
    add_all(gate, w2, h, m.side, fetch)


def projected(m: Model, h: Any, fetch: Fetch, keep: Keep) -> None:
    """Logits of the last hidden state."""
    x = normalised(h, m.norm3)
    for j in P.seq(m.logits.shape[1] // m.side):
        row = zeros(1, m.side)
        add_column(x, m.head, j, row, fetch)
        keep(row, m.logits[:, part(j, m.side)])


def computed(m: Model, fetch: Fetch, keep: Keep) -> None:
    """All of it, in its order."""
    h = embedded(m)
    for layer in P.seq(m.layers):
        add_layer(m, layer, h, fetch, keep)
    projected(m, h, fetch, keep)


def new_rows(m: Model, layer: Any) -> Iterator[Any]:
    """Where the new keys and values of a layer belong."""
    for i in P.seq(2):
        yield m.cache[layer, i, m.length :]


def new_logits(m: Model) -> Iterator[Any]:
    for j in P.seq(m.logits.shape[1] // m.side):
        yield m.logits[:, part(j, m.side)]


def three(
    m: Model,
    depth: int,
    needed: Callable[[], Iterator[Any]],
    compute: Callable[[Fetch, Keep], None],
    places: Callable[[], Iterator[Any]],
) -> None:
    """Loader, computer and storer. needed: matrices, in the order in which `compute` fetches their tiles; places: those of the rows
    that it keeps, in that order."""
    tiles, rows = Channel[Tensor](depth=depth), Channel[Tensor](depth=depth)

    def loader() -> None:
        for w in needed():
            for j in P.seq(w.shape[1] // m.side):
                for _, view in down(w, j, m.side):
                    send(tiles, load(x=view, out=empty((m.side, m.side), F32)))

    def computer() -> None:
        compute(lambda view: tiles.recv(), lambda row, to: send(rows, row))

    def storer() -> None:
        for place in places():
            store(x=rows.recv(), out=place)

    connect(
        [
            process("loader").produces(tiles).body(loader),
            process("computer").consumes(tiles).produces(rows).body(computer),
            process("storer").consumes(rows).body(storer),
        ],
        [tiles, rows],
    )


@workload
def piped(model: dict[str, Tensor], depth: int):
    """One pipeline: the loader goes on from layer to layer by itself."""
    m = Model(**model)

    def needed() -> Iterator[Any]:
        for layer in P.seq(m.layers):
            yield from m.streamed(layer)
        yield m.head

    def places() -> Iterator[Any]:
        for layer in P.seq(m.layers):
            yield from new_rows(m, layer)
        yield from new_logits(m)

    three(m, depth, needed, lambda fetch, keep: computed(m, fetch, keep), places)


@workload
def by_layer(model: dict[str, Tensor], depth: int):
    """A pipeline for each layer, and one for the logits: nothing of a layer is loaded before the layer before it is done."""
    m = Model(**model)
    h = embedded(m)
    for layer in P.seq(m.layers):
        of = m.streamed(layer)
        three(
            m,
            depth,
            lambda of=of: iter(of),
            lambda f, k, i=layer: add_layer(m, i, h, f, k),
            lambda i=layer: new_rows(m, i),
        )
    three(m, depth, lambda: iter([m.head]), lambda fetch, keep: projected(m, h, fetch, keep), lambda: new_logits(m))


@workload
def in_turn(model: dict[str, Tensor]):
    """The same calls of kernels, one after another."""
    m = Model(**model)
    room = empty((m.side, m.side), F32)

    def fetch(view: Any) -> Any:
        load(x=view, out=room)
        return room

    def keep(row: Any, to: Any) -> None:
        store(x=row, out=to)

    computed(m, fetch, keep)


def turned(x: Any, cos: Any, sin: Any, half: int) -> list[Any]:
    """The halves of x [heads, 2 * half] at the new position."""
    a, b = x[:, :half], x[:, half:]
    return [a * cos - b * sin, b * cos + a * sin]


def by_arrays(m: Model) -> list[Array]:
    """What a step gives, with whole arrays: logits, and the new keys and values of each layer."""

    def normal(x: Array, weight: Array) -> Array:
        return x / np.sqrt((x * x).mean() + x.dtype.type(EPS)) * weight

    h, given = m.embedding[m.token], list[Array]()
    for layer in range(m.layers):
        wq, wk, keys, wv, values, wo, w1, w3, w2 = m.streamed(layer)
        x = normal(h, m.norm1[layer])
        q, k = (np.concatenate(turned((x @ w).reshape(-1, m.dim), m.cos, m.sin, m.dim // 2), axis=1) for w in (wq, wk))
        v = x @ wv
        given += [k.ravel(), v.ravel()]
        keys, values = (
            np.concatenate([old, new.reshape(1, -1)]).reshape(m.length + 1, -1, m.dim).swapaxes(0, 1)
            for old, new in ((keys, k), (values, v))
        )
        s = q.reshape(len(keys), -1, m.dim) @ keys.swapaxes(1, 2) / q.dtype.type(math.sqrt(m.dim))
        p = np.exp(s - s.max(axis=-1, keepdims=True))
        h = h + (p / p.sum(axis=-1, keepdims=True) @ values).reshape(1, -1) @ wo
        x = normal(h, m.norm2[layer])
        g = x @ w1
        h = h + (g / (1 + np.exp(-g)) * (x @ w3)) @ w2
    return [(normal(h, m.norm3) @ m.head).ravel(), *given]


def golden(m: Model) -> Array:
    """In float64."""
    wide = {n: x if x.dtype.kind == "i" else x.astype(np.float64) for n, x in m.named().items()}
    return np.concatenate(by_arrays(Model(**wide)))


def beside(parts: list[Estimate], axis: int) -> Estimate:
    return Estimate(*(np.concatenate([getattr(p, f) for p in parts], axis=axis) for f in ("value", "variance")))


def accumulated(x: Estimate, w: Array, residual: Estimate) -> Estimate:
    """The chain of a product begins with the residual, so each of its roundings is of that too."""
    y = x @ Estimate.exact(w)
    walk = len(w) * (U * residual.value) ** 2
    return Estimate(y.value + residual.value, y.variance + residual.variance + walk)


def estimate(m: Model) -> Estimate:
    """As `by_arrays`, in one row."""
    exact = Estimate.exact
    cos, sin = exact(m.cos), exact(m.sin)
    h, given = exact(m.embedding[m.token]), list[Estimate]()
    for layer in range(m.layers):
        wq, wk, keys, wv, values, wo, w1, w3, w2 = m.streamed(layer)
        x = h.rmsnorm(EPS) * exact(m.norm1[layer])
        q, k = (beside(turned((x @ exact(w)).reshape(-1, m.dim), cos, sin, m.dim // 2), 1) for w in (wq, wk))
        k, v = k.reshape(1, -1), x @ exact(wv)
        given += [k, v]
        keys, values = (beside([exact(old), new], 0) for old, new in ((keys, k), (values, v)))
        attended = [
            (q[part(g, group)] @ keys[:, part(g, m.dim)].transposed()).scaled(1 / math.sqrt(m.dim)).softmax()
            @ values[:, part(g, m.dim)]
            for g in range(m.side // m.dim)
            for group in [m.hidden // m.side]
        ]
        h = accumulated(beside(attended, 0).reshape(1, -1), wo, h)
        x = h.rmsnorm(EPS) * exact(m.norm2[layer])
        h = accumulated((x @ exact(w1)).silu() * (x @ exact(w3)), w2, h)
    return beside([(h.rmsnorm(EPS) * exact(m.norm3)) @ exact(m.head), *given], 1).reshape(-1)


def written(m: Model) -> Array:
    """What a step has written, as `golden` gives it."""
    return np.concatenate([m.logits.ravel(), m.cache[:, :, m.length].ravel()])


def random_model(layers: int, heads: int, kv_heads: int, dim: int, ffn: int, length: int, vocabulary: int) -> Model:
    random = np.random.default_rng(0)
    hidden, side = heads * dim, kv_heads * dim

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape, dtype=np.float32)

    def weight(rows: int, cols: int) -> Array:
        return normal(layers, rows, cols) / np.float32(math.sqrt(rows))

    def scale(*shape: int) -> Array:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)

    turns = length * BASE ** (-2 * np.arange(dim // 2)[None] / dim)
    return Model(
        token=random.integers(vocabulary, size=1).astype(np.int32),
        embedding=normal(vocabulary, hidden),
        cos=np.cos(turns).astype(np.float32),
        sin=np.sin(turns).astype(np.float32),
        cache=normal(layers, 2, length + 1, side),
        norm1=scale(layers, 1, hidden),
        wq=weight(hidden, hidden),
        wk=weight(hidden, side),
        wv=weight(hidden, side),
        wo=weight(hidden, hidden),
        norm2=scale(layers, 1, hidden),
        w1=weight(hidden, ffn),
        w3=weight(hidden, ffn),
        w2=weight(ffn, hidden),
        norm3=scale(1, hidden),
        head=normal(hidden, vocabulary) / np.float32(math.sqrt(hidden)),
        logits=np.zeros((1, vocabulary), np.float32),
    )


def run(
    layers: int = LAYERS,
    heads: int = HEADS,
    kv_heads: int = KV_HEADS,
    dim: int = DIM,
    ffn: int = FFN,
    length: int = LENGTH,
    vocabulary: int = VOCABULARY,
    threads: int | None = None,
) -> list[Result]:
    sizes = (layers, heads, kv_heads, dim, ffn, length, vocabulary)
    check_sizes(**dict(zip(("layers", "heads", "kv_heads", "dim", "ffn", "length", "vocabulary"), sizes, strict=True)))
    hidden, side = heads * dim, kv_heads * dim
    if heads % kv_heads or dim % 2 or any(n % side for n in (ffn, length, vocabulary)):
        raise ValueError(
            f"tiles of side {side} = kv_heads * dim do not divide the sizes, or {dim} elements of a head are odd"
        )
    m = random_model(*sizes)
    want, bound = golden(m), estimate(m).bound
    outputs: list[Array] = []

    def result(how: str, w: Workload) -> Result:
        m.logits[:] = m.cache[:, :, length] = np.nan
        program = w.compile(target="cpu_sim", arch=ARCH, threads=threads)
        cycles = CYCLES[how] if sizes == SIZES else None

        def check() -> tuple[float, float]:
            outputs.append(written(m))
            largest, of_bound = compare(outputs[-1], want, bound)
            return largest, of_bound if outputs[-1].tobytes() == outputs[0].tobytes() else math.inf

        made = measured(f"megakernel {layers}x{hidden} {how}", program, outputs, check, cycles)
        return replace(made, outputs=tuple(outputs[-1:]))

    alone = result("in turn", in_turn(m.named()).dispatch(DispatchPolicy.round_robin(1)))
    results = [alone]
    for how, w in [
        *((f"depth {depth}", piped(m.named(), depth)) for depth in DEPTHS),
        (f"depth {DEPTHS[-1]} by layer", by_layer(m.named(), DEPTHS[-1])),
    ]:
        r = result(how, w)
        saved = f"saves {alone.cycles - r.cycles:,} of {alone.cycles:,} cycles"
        results.append(replace(r, notes=(f"{saved}: {alone.cycles / r.cycles:.3f} times as fast as in turn",)))
    return results


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
