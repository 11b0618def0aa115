"""The parts of a DeepSeek-V3 decode step, and one layer of them together, each validated against float64.

attention    of one new query per sequence and head over keys and values of any length: one task each, in the smallest of
             three tiers that holds the sequence
rmsnorm      of each token, before attention and before the experts
ffn          the shared expert: a task for the two products and silu, one for the product back
moe          256 experts, 8 for each token, chosen by tasks of the same run; a task for each token and choice
integration  one layer for one token: norm, attention of four heads, residual, norm, gate, two experts, the shared one, sum
"""

import math
import sys
from collections.abc import Callable, Sequence

import numpy as np

from pto_wsp import (
    Constexpr,
    DispatchPolicy,
    DType,
    In,
    Out,
    P,
    Program,
    Tensor,
    Workload,
    empty,
    item,
    kernel,
    pto,
    workload,
)
from pto_wsp.tools.bounds import Array, Estimate, compare, worst
from pto_wsp.tools.report import Result, check_sizes, command_line, measured

TOKENS, HIDDEN, FFN, EXPERTS, TOP, HEADS = 100, 1024, 256, 256, 8, 8
LENGTHS = (128, 1000, 2048, 8192)
TIERS = (512, 2048, 8192)
EPS = 1e-6
CYCLES = {"attention": 405_546, "rmsnorm": 40_500, "ffn": 1_778_400, "moe": 10_558_400, "integration": 78_348}


@kernel
def attend(q: In[Tensor], k: In[Tensor], v: In[Tensor], out: Out[Tensor]):
    s = pto.matmul(q, k, transpose_b=True) * (1 / math.sqrt(q.shape[1]))
    pto.store(out, pto.matmul(pto.softmax(s), v))


@kernel
def norm(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rmsnorm(x, weight, eps=EPS))


@kernel
def gate_up(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], h: Out[Tensor]):
    pto.store(h, pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3))


@kernel
def down(h: In[Tensor], w2: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(h, w2))


@kernel
def expert(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], w2: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3), w2))


@kernel
def gate(x: In[Tensor], w: In[Tensor], weight: Out[Tensor], choice: Out[Tensor], top: Constexpr[int]):
    best, index = pto.topk(pto.matmul(x, w), top)
    pto.store(weight, pto.softmax(best))
    pto.store(choice, index)


@kernel
def add(x: In[Tensor], y: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + y)


@kernel
def mix(x: In[Tensor], shared: In[Tensor], results: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    """x + shared + weight results: [1, hidden], results [top, hidden], weight [1, top]."""
    pto.store(out, x + shared + pto.matmul(weight, results))


def attend_tiered(q, k, v, n, out, tiers: tuple[int, ...]) -> None:
    """One task, in the smallest tier that holds the n keys. No keys: none, and out stays as it is."""
    with P.when(n == 0):
        pass
    for tier in tiers:
        with P.otherwise(n <= tier) if tier < tiers[-1] else P.otherwise():
            attend(q=q, k=k[:tier].valid(rows=n), v=v[:tier].valid(rows=n), out=out)


@workload
def attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor, out: Tensor, tiers: tuple[int, ...]):
    """q, out [batch, heads, d]; k, v [batch, heads, longest, d]; lengths [batch]."""
    for b in P(q.shape[0]):
        n = item(lengths[b])
        for h in P(q.shape[1]):
            head = slice(h, h + 1)
            attend_tiered(q[b, head], k[b, h], v[b, h], n, out[b, head], tiers)


@workload
def norms(x: Tensor, first: Tensor, second: Tensor, y: Tensor, z: Tensor):
    """x, y, z [tokens, hidden]: y is the norm of x with weights `first` [1, hidden], z that of y with `second`."""
    for a, weight, b in ((x, first, y), (y, second, z)):
        for t in P(a.shape[0]):
            norm[t](x=a[t : t + 1], weight=weight, out=b[t : t + 1])


@workload
def ffn(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, out: Tensor):
    """x, out [tokens, hidden]; w1, w3 [hidden, ffn]; w2 [ffn, hidden]."""
    h = empty((x.shape[0], w1.shape[1]), DType.F32)
    for t in P(x.shape[0]):
        row = slice(t, t + 1)
        gate_up[t](x=x[row], w1=w1, w3=w3, h=h[row])
        down[t](h=h[row], w2=w2, out=out[row])


@workload
def moe(x: Tensor, choice: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, results: Tensor):
    """choice [tokens, top] numbers of experts; w1, w3 [experts, hidden, ffn]; results [tokens, top, hidden]."""
    for t in P(x.shape[0]):
        for c in P(choice.shape[1]):
            e = item(choice[t, c])
            expert[t, c](x=x[t : t + 1], w1=w1[e], w3=w3[e], w2=w2[e], out=results[t, c : c + 1])


@workload
def layer(x, q, k, v, lengths, first, second, w_gate, experts, shared, choice, out, tiers: tuple[int, ...]):
    """One token: x, out [1, hidden]; q [1, heads, d], heads * d = hidden; experts, shared: w1, w3, w2; choice [1, top]."""
    hidden, heads, dim, top = x.shape[1], q.shape[1], q.shape[2], choice.shape[1]
    attended, residual, y, alike = (empty((1, hidden), DType.F32) for _ in range(4))
    weight, results = empty((1, top), DType.F32), empty((1, top, hidden), DType.F32)
    n = item(lengths[0])
    norm(x=x, weight=first, out=y)
    for h in P(heads):
        attend_tiered(q[0, h : h + 1], k[0, h], v[0, h], n, attended[:, h * dim : (h + 1) * dim], tiers)
    add(x=x, y=attended, out=residual)
    norm(x=residual, weight=second, out=y)
    gate(x=y, w=w_gate, weight=weight, choice=choice, top=top)
    moe(y, choice, *experts, results)
    expert(x=y, w1=shared[0], w3=shared[1], w2=shared[2], out=alike)
    mix(x=residual, shared=alike, results=results[0], weight=weight, out=out)


Tensors = Sequence[Array]


def attention_estimate(q: Array, k: Array, v: Array) -> Estimate:
    """One head of one sequence: q [d], k, v [length, d]; [1, d]."""
    s = (Estimate.exact(q[None]) @ Estimate.exact(k).transposed()).scaled(1 / math.sqrt(len(q)))
    return s.softmax() @ Estimate.exact(v)


def norm_estimate(x: Estimate, weight: Array) -> Estimate:
    return x.rmsnorm(EPS) * Estimate.exact(weight)


def expert_estimate(x: Estimate, w1: Array, w3: Array, w2: Array) -> Estimate:
    """A SwiGLU."""
    return ((x @ Estimate.exact(w1)).silu() * (x @ Estimate.exact(w3))) @ Estimate.exact(w2)


def layer_estimate(
    x: Array,
    q: Array,
    k: Array,
    v: Array,
    first: Array,
    second: Array,
    w_gate: Array,
    experts: Tensors,
    shared: Tensors,
    choice: Array,
) -> Estimate:
    """With this choice of experts, [1, top]; q [1, heads, d], k, v [heads, length, d]."""
    heads = [attention_estimate(q[0, h], k[h], v[h]) for h in range(q.shape[1])]
    attended = Estimate(*(np.concatenate([getattr(e, f) for e in heads], axis=1) for f in ("value", "variance")))
    residual = Estimate.exact(x) + attended
    y = norm_estimate(residual, second)
    weight = (y @ Estimate.exact(w_gate))[:, choice[0]].softmax()
    out = residual + expert_estimate(y, *shared)
    for c, e in enumerate(choice[0]):
        out = out + expert_estimate(y, *(w[e] for w in experts)) * weight[:, c : c + 1]
    return out


def golden(x: Array, w1: Array, w3: Array, w2: Array) -> Array:
    """The shared expert in float64."""
    return expert_estimate(Estimate.exact(x), w1, w3, w2).value


def run(
    tokens: int = TOKENS,
    hidden: int = HIDDEN,
    width: int = FFN,
    experts: int = EXPERTS,
    top: int = TOP,
    heads: int = HEADS,
    scale: int = 1,
    threads: int | None = None,
) -> list[Result]:
    """scale: keys are this many times fewer."""
    check_sizes(tokens=tokens, hidden=hidden, width=width, experts=experts, top=top, heads=heads, scale=scale)
    random = np.random.default_rng(0)
    standard = (tokens, hidden, width, experts, top, heads, scale) == (TOKENS, HIDDEN, FFN, EXPERTS, TOP, HEADS, 1)
    results: list[Result] = []

    def normal(*shape: int, by: float = 1.0) -> Array:
        return random.standard_normal(shape, dtype=np.float32) * np.float32(by)

    def zeros(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    def validate(
        name: str, w: Workload, outputs: Tensors, check: Callable[[], tuple[float, float]], peer: Callable[[], object]
    ) -> None:
        program: Program = w.dispatch(DispatchPolicy.round_robin(4)).compile(arch="ascend_a2a3", threads=threads)
        cycles = CYCLES.get(name) if standard else None
        results.append(measured(f"deepseek_v3 {name}", program, outputs, check, cycles, {"numpy": peer}))

    tiers = tuple(-(-t // scale) for t in TIERS)
    lengths = np.array([-(-n // scale) for n in LENGTHS], np.int32)
    dim = max(hidden // heads, 1)
    q, out = normal(len(lengths), heads, dim), zeros(len(lengths), heads, dim)
    k, v = (normal(len(lengths), heads, tiers[-1], dim) for _ in range(2))
    for cache in (k, v):
        for b, n in enumerate(lengths):
            cache[b, :, n:] = np.nan  # beyond the sequence
    each = [(b, h) for b in range(len(lengths)) for h in range(heads)]

    def numpy_attention() -> None:
        for b, h in each:
            s = k[b, h, : lengths[b]] @ q[b, h] / np.float32(math.sqrt(dim))
            p = np.exp(s - s.max())
            _ = (p / p.sum()) @ v[b, h, : lengths[b]]

    validate(
        "attention",
        attention(q, k, v, lengths, out, tiers),
        [out],
        lambda: worst(
            attention_estimate(q[b, h], k[b, h, : lengths[b]], v[b, h, : lengths[b]]).compared(out[b, h : h + 1])
            for b, h in each
        ),
        numpy_attention,
    )

    x, first, second, y, z = (
        normal(tokens, hidden),
        normal(1, hidden),
        normal(1, hidden),
        zeros(tokens, hidden),
        zeros(tokens, hidden),
    )
    normed = norm_estimate(Estimate.exact(x), first)

    def numpy_norms() -> None:
        a = x
        for weight in (first, second):
            a = a / np.sqrt((a * a).mean(axis=1, keepdims=True) + np.float32(EPS)) * weight

    validate(
        "rmsnorm",
        norms(x, first, second, y, z),
        [y, z],
        lambda: worst([normed.compared(y), norm_estimate(normed, second).compared(z)]),
        numpy_norms,
    )

    def swiglu(a: Array, w1: Array, w3: Array, w2: Array) -> Array:
        h = a @ w1
        return (h / (1 + np.exp(-h)) * (a @ w3)) @ w2

    shared = [
        normal(hidden, width, by=hidden**-0.5),
        normal(hidden, width, by=hidden**-0.5),
        normal(width, hidden, by=width**-0.5),
    ]
    out_ffn = zeros(tokens, hidden)
    validate(
        "ffn",
        ffn(x, *shared, out_ffn),
        [out_ffn],
        lambda: compare(out_ffn, golden(x, *shared), expert_estimate(Estimate.exact(x), *shared).bound),
        lambda: swiglu(x, *shared),
    )

    weights = [
        normal(experts, hidden, width, by=hidden**-0.5),
        normal(experts, hidden, width, by=hidden**-0.5),
        normal(experts, width, hidden, by=width**-0.5),
    ]
    choice = np.argsort(random.random((tokens, experts)), axis=1)[:, :top].astype(np.int32)
    each_token = zeros(tokens, top, hidden)

    def numpy_moe() -> None:
        for e in np.unique(choice):
            rows = np.unique(np.nonzero(choice == e)[0])
            swiglu(x[rows], *(w[e] for w in weights))

    validate(
        "moe",
        moe(x, choice, *weights, each_token),
        [each_token],
        lambda: worst(
            expert_estimate(Estimate.exact(x[t : t + 1]), *(w[choice[t, c]] for w in weights)).compared(
                each_token[t, c : c + 1]
            )
            for t in range(tokens)
            for c in range(top)
        ),
        numpy_moe,
    )

    few, n = min(heads, 4), int(lengths[0])
    part = -(-hidden // few)
    one, q1 = normal(1, few * part), normal(1, few, part)
    keys, values = (normal(1, few, tiers[-1], part) for _ in range(2))
    g1, g2, w_gate = normal(1, few * part), normal(1, few * part), normal(few * part, experts)
    chosen, out1 = np.zeros((1, min(top, 2)), np.int32), zeros(1, few * part)
    if few * part != hidden:
        raise ValueError(f"hidden is {hidden}, but must be a multiple of {few}")

    def numpy_layer() -> None:
        s = keys[0, :, :n] @ q1[0, :, :, None] / np.float32(math.sqrt(part))
        p = np.exp(s - s.max(axis=1, keepdims=True))
        a = one + ((p / p.sum(axis=1, keepdims=True)).swapaxes(1, 2) @ values[0, :, :n]).reshape(1, -1)
        b = a / np.sqrt((a * a).mean() + np.float32(EPS)) * g2
        _ = a + swiglu(b, *shared) + sum(swiglu(b, *(w[e] for w in weights)) for e in chosen[0])

    validate(
        "integration",
        layer(
            one,
            q1,
            keys,
            values,
            lengths[:1],
            g1,
            g2,
            w_gate,
            [Tensor(w) for w in weights],
            [Tensor(w) for w in shared],
            chosen,
            out1,
            tiers,
        ),
        [out1, chosen],
        lambda: layer_estimate(
            one, q1, keys[0, :, :n], values[0, :, :n], g1, g2, w_gate, weights, shared, chosen
        ).compared(out1),
        numpy_layer,
    )
    return results


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
