"""A mixture of experts whose routing is computed inside the workload: no capacity, no padding, no dropped tokens.

1. For each tile of tokens: logits by a product, the best experts of each token, and their weights.
2. One task counts and sorts: for each expert the tokens that chose it, as rows of a sparse matrix (indptr, token, slot).
3. For each expert, for each tile of its tokens: gather the rows, apply the expert, scatter the results to their slots.
4. For each tile of tokens: the weighted sum of its results, always in the same order.

Step 3 has as many tasks as the routing of step 2 says: the workload reads it when it is there. An expert is a SwiGLU,
(silu(x w1) * (x w3)) w2, or two products with a relu between.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pto_wsp import Constexpr, DispatchPolicy, DType, In, InOut, Out, P, Sparse, Tensor, empty, kernel, pto, workload
from pto_wsp.tools.bounds import Array, Estimate, compare
from pto_wsp.tools.report import Result, check_sizes, command_line, jitted, measured

TOKENS, HIDDEN, FFN, EXPERTS, TOP = 1024, 512, 1024, 32, 2
GATE_TILE, TILE = 64, 64
CYCLES = {True: 2_299_901, False: 1_575_485}  # by `swiglu`


@kernel
def gate(x: In[Tensor], w: In[Tensor], weight: Out[Tensor], choice: Out[Tensor], top: Constexpr[int]):
    """weight [tile, top]: softmax over the chosen experts. choice [top, tile]: their numbers."""
    best, index = pto.topk(pto.matmul(x, w), top)
    pto.store(weight, pto.softmax(best))
    pto.store(choice, pto.transpose(index))


@kernel
def sort(choice: In[Tensor], indptr: Out[Tensor], token: Out[Tensor], slot: Out[Tensor], experts: Constexpr[int]):
    """choice [top, tokens]. Slot c * tokens + t is choice c of token t. In the order of experts, and of slots within one:
    token [1, top * tokens] and slot [1, top * tokens]; expert e has those from indptr[e] to indptr[e + 1]."""
    top, tokens = choice.shape
    shape = (tokens, experts)
    hits, places = [], []
    count = pto.full((1, experts), 0, DType.I32)
    for c in range(top):
        hit = pto.broadcast(pto.transpose(pto.slice(choice, rows=(c, c + 1))), shape) == pto.iota(shape, axis=1)
        ones = pto.cast(hit, DType.I32)
        hits.append(hit)
        places.append(pto.coladd(pto.cumsum(ones, axis=0), count - 1))  # within the expert
        count = count + pto.colsum(ones)
    end = pto.cumsum(count)
    pto.store(indptr, pto.concat(pto.full((1, 1), 0, DType.I32), end))
    number = pto.iota((1, tokens), axis=1)
    tokens_of = slots_of = pto.full((1, top * tokens), 0, DType.I32)
    for c in range(top):
        place = pto.transpose(pto.rowsum(pto.where(hits[c], pto.coladd(places[c], end - count), 0)))
        tokens_of = pto.scatter(tokens_of, place, number)
        slots_of = pto.scatter(slots_of, place, number + c * tokens)
    pto.store(token, tokens_of)
    pto.store(slot, slots_of)


@kernel
def swiglu_expert(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], w2: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3), w2))


@kernel
def relu_expert(x: In[Tensor], w1: In[Tensor], w2: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(pto.relu(pto.matmul(x, w1)), w2))


@kernel
def scale(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rowmul(x, weight))


@kernel
def add(x: In[Tensor], weight: In[Tensor], out: InOut[Tensor]):
    pto.store(out, out + pto.rowmul(x, weight))


@workload
def moe(x: Tensor, w_gate: Tensor, w1: Tensor, w3: Tensor | None, w2: Tensor, choice: Tensor, out: Tensor):
    """x, out [tokens, hidden]; w_gate [hidden, experts]; w1, w3 [experts, hidden, ffn]; w2 [experts, ffn, hidden];
    choice [top, tokens] is filled with what was chosen. Without w3 the experts are relu_expert."""
    (tokens, hidden), (top, _), experts = x.shape, choice.shape, w1.shape[0]
    weight = empty((tokens, top), DType.F32)
    for i in P(x.tiles(GATE_TILE)):
        gate[i](x=x[i], w=w_gate, weight=weight[i], choice=choice[:, i], top=top)
    indptr, token, slot = (empty((1, n), DType.I32) for n in (experts + 1, top * tokens, top * tokens))
    sort(choice=choice, indptr=indptr, token=token, slot=slot, experts=experts)
    results = empty((top * tokens, hidden), DType.F32)
    tokens_of = Sparse(experts, indptr[0], token[0], name="tokens_of")
    slots_of = Sparse(experts, indptr[0], slot[0], name="slots_of")
    for e in P(experts):
        for i in P(tokens_of[e].tiles(TILE)):
            rows = {"x": x[tokens_of[e][i], :], "out": results[slots_of[e][i], :]}
            if w3 is None:
                relu_expert[e, i](w1=w1[e], w2=w2[e], **rows)
            else:
                swiglu_expert[e, i](w1=w1[e], w3=w3[e], w2=w2[e], **rows)
    for i in P(x.tiles(GATE_TILE)):
        scale[i](x=results[:tokens][i], weight=weight[i, 0:1], out=out[i])
        for c in range(1, top):
            add[i](x=results[c * tokens : (c + 1) * tokens][i], weight=weight[i, c : c + 1], out=out[i])


def estimate(x: Array, w_gate: Array, w1: Array, w3: Array | None, w2: Array, choice: Array) -> Estimate:
    """With these choices, [top, tokens]."""
    logits = Estimate.exact(x) @ Estimate.exact(w_gate)
    tokens = np.arange(len(x))
    chosen = Estimate(logits.value[tokens, choice].T, logits.variance[tokens, choice].T)
    weight = chosen.softmax()
    terms = []
    for c, of in enumerate(choice):
        y = Estimate(np.zeros(x.shape), np.zeros(x.shape))
        for e in np.unique(of):
            rows = of == e
            a = Estimate.exact(x[rows])
            h = a @ Estimate.exact(w1[e])
            if w3 is None:
                h = Estimate(np.maximum(h.value, 0), h.variance)
            else:
                h = h.silu() * (a @ Estimate.exact(w3[e]))
            z = h @ Estimate.exact(w2[e])
            y.value[rows], y.variance[rows] = z.value, z.variance
        terms.append(y * weight[:, c : c + 1])
    return sum(terms[1:], start=terms[0])


def golden(x: Array, w_gate: Array, w1: Array, w3: Array | None, w2: Array, choice: Array) -> Array:
    """In float64, with these choices, [top, tokens]."""
    return estimate(x, w_gate, w1, w3, w2, choice).value


def wrong_choices(x: Array, w_gate: Array, choice: Array) -> int:
    """Tokens of which an expert was chosen whose exact logit lies below that of one that was not, by more than errors explain."""
    logits = Estimate.exact(x) @ Estimate.exact(w_gate)
    chosen = np.zeros(logits.value.shape, bool)
    chosen[np.arange(len(x)), choice] = True
    low = np.where(chosen, logits.value + logits.bound, np.inf).min(axis=1)
    high = np.where(chosen, -np.inf, logits.value - logits.bound).max(axis=1)
    return int(((chosen.sum(axis=1) != len(choice)) | (low < high)).sum())


def by_numpy(x: Array, w1: Array, w3: Array | None, w2: Array, choice: Array) -> Callable[[], object]:
    """A loop over the experts, given the routing."""

    def run() -> None:
        out = np.zeros_like(x)
        for e in range(len(w1)):
            for of in choice:
                rows = np.flatnonzero(of == e)
                a = x[rows]
                h = a @ w1[e]
                h = np.maximum(h, 0) if w3 is None else h / (1 + np.exp(-h)) * (a @ w3[e])
                out[rows] += h @ w2[e]

    return run


def dropless(jnp: Any, x: Any, w_gate: Any, w1: Any, w3: Any, w2: Any, top: int) -> Any:
    """Sorted by expert, and products of ragged groups."""
    import jax  # where this runs, jax is installed

    best, index = jax.lax.top_k(x @ w_gate, top)
    order = jnp.argsort(index.reshape(-1))
    sizes = jnp.bincount(index.reshape(-1), length=w1.shape[0])
    a = x[order // top]
    h = jax.lax.ragged_dot(a, w1, sizes)
    h = jnp.maximum(h, 0) if w3 is None else jax.nn.silu(h) * jax.lax.ragged_dot(a, w3, sizes)
    y = jnp.zeros((len(order), x.shape[1]), x.dtype).at[order].set(jax.lax.ragged_dot(h, w2, sizes))
    return (y.reshape(len(x), top, -1) * jax.nn.softmax(best)[..., None]).sum(axis=1)


def run(
    tokens: int = TOKENS,
    hidden: int = HIDDEN,
    ffn: int = FFN,
    experts: int = EXPERTS,
    top: int = TOP,
    swiglu: bool = True,
    threads: int | None = None,
) -> Result:
    check_sizes(tokens=tokens, hidden=hidden, ffn=ffn, experts=experts, top=top)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return random.standard_normal(shape, dtype=np.float32)

    x, w_gate = normal(tokens, hidden), normal(hidden, experts)
    w1 = normal(experts, hidden, ffn) / np.float32(np.sqrt(hidden))
    w3 = normal(experts, hidden, ffn) / np.float32(np.sqrt(hidden)) if swiglu else None
    w2 = normal(experts, ffn, hidden) / np.float32(np.sqrt(ffn))
    choice, out = np.zeros((top, tokens), np.int32), np.zeros((tokens, hidden), np.float32)
    program = (
        moe(x, w_gate, w1, w3, w2, choice, out)
        .dispatch(DispatchPolicy.round_robin(4))
        .compile(target="cpu_sim", arch="ascend_a2a3", threads=threads)
    )

    def check() -> tuple[float, float]:
        if wrong_choices(x, w_gate, choice):
            return np.inf, np.inf
        expected = estimate(x, w_gate, w1, w3, w2, choice)
        return compare(out, golden(x, w_gate, w1, w3, w2, choice), expected.bound)

    standard = (tokens, hidden, ffn, experts, top) == (TOKENS, HIDDEN, FFN, EXPERTS, TOP)
    peers = {"numpy, routing given": by_numpy(x, w1, w3, w2, choice)}
    peers |= jitted(
        lambda jnp, *a: dropless(jnp, *a[:3], a[3] if swiglu else None, a[-1], top),
        x,
        w_gate,
        w1,
        *([w3] if w3 is not None else []),
        w2,
    )
    name = f"moe{' swiglu' if swiglu else ''} {tokens}x{hidden}x{ffn}, {top} of {experts}"
    return measured(name, program, [out, choice], check, CYCLES.get(swiglu) if standard else None, peers)


if __name__ == "__main__":
    sys.exit(command_line(run, __doc__))
