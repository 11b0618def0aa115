"""A mixture of experts whose experts are divided between devices, of one process or of many: what each device runs.

Tokens are divided too. Each device routes its own, sends each chosen row to the device that has the expert, computes with its
experts the rows that came, sends the results back, and adds up those of its tokens. What computes is a workload; what moves is JAX.

1. Routing: logits by a product, the best experts of each token, and their weights.
2. All devices learn how many rows everybody has for each expert.
3. Rounds. In each, a device sends every other up to `capacity` rows, those beyond wait for the next: there are as many rounds as
   the fullest pair of devices needs, and nothing is dropped. Of what arrives, the workload computes only the rows that are there.
4. The weighted sum of each token's results, in the order of its choices.

Moving a row changes none of its bits, and what a kernel makes of a row does not depend on the rows beside it: a product is one chain
for each element. So neither the number of devices nor the capacity changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pto_wsp import Constexpr, DType, In, InOut, Out, P, Sparse, Tensor, empty, kernel, pto, workload
from pto_wsp.tools.bounds import Array, Estimate
from pto_wsp.tools.report import check_sizes
from pto_wsp_jax import as_jax

AXIS = "shard"
TILE, WIDTH = 64, 256  # rows of a task, columns of an expert's product
SKEW, NEVER = 1.5, -100.0  # biases of the experts' logits go from SKEW to -SKEW, and the last has NEVER


@dataclass(frozen=True)
class Sizes:
    """Of the layer. capacity: rows that a device sends another in one round; 0: twice what an even routing needs."""

    tokens: int = 2048
    hidden: int = 1024
    ffn: int = 2816
    experts: int = 16
    top: int = 2
    capacity: int = 0

    def check(self, devices: int) -> None:
        """Raise ValueError unless the layer can be divided so."""
        check_sizes(tokens=self.tokens, hidden=self.hidden, ffn=self.ffn, experts=self.experts, top=self.top)
        for name, size in (("tokens", self.tokens), ("experts", self.experts)):
            if size % devices:
                raise ValueError(f"{size} {name} are not divisible between {devices} devices")
        if self.top > self.experts:
            raise ValueError(f"top is {self.top}, but there are {self.experts} experts")

    def rows(self, devices: int) -> int:
        """The capacity. No device ever has more for one other than its tokens with every choice there."""
        most = self.tokens // devices * min(self.top, self.experts // devices)
        return min(self.capacity or 2 * -(-self.tokens * self.top // devices**2), most)


# What is computed: workloads.


@kernel
def gate(x: In[Tensor], w: In[Tensor], bias: In[Tensor], weight: Out[Tensor], choice: Out[Tensor], top: Constexpr[int]):
    """weight [tile, top]: softmax over the chosen experts. choice [top, tile]: their numbers."""
    best, index = pto.topk(pto.coladd(pto.matmul(x, w), bias), top)
    pto.store(weight, pto.softmax(best))
    pto.store(choice, pto.transpose(index))


@workload
def route(x: Tensor, w: Tensor, bias: Tensor, top: int):
    """x [tokens, hidden]; w [hidden, experts]; bias [1, experts]. Gives weights [tokens, top] and choices [top, tokens]."""
    weight, choice = empty((x.shape[0], top), DType.F32), empty((top, x.shape[0]), DType.I32)
    for i in P(x.tiles(TILE)):
        gate[i](x=x[i], w=w, bias=bias, weight=weight[i], choice=choice[:, i], top=top)
    return weight, choice


@kernel
def gate_and_up(x: In[Tensor], w1: In[Tensor], w3: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.silu(pto.matmul(x, w1)) * pto.matmul(x, w3))


@kernel
def down(x: In[Tensor], w: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.matmul(x, w))


@workload
def experts(x: Tensor, w1: Tensor, w3: Tensor, w2: Tensor, indptr: Tensor, row: Tensor):
    """x [rows, hidden]; w1, w3 [experts, hidden, ffn]; w2 [experts, ffn, hidden]. Expert e has the entries from indptr[e] to
    indptr[e + 1] of `row`; rows that are no expert's cost nothing. Gives the results in the places of the rows."""
    count, _, ffn = w1.shape
    h, out = empty((x.shape[0], ffn), DType.F32), empty(x.shape, DType.F32)
    rows_of = Sparse(count, indptr, row, name="rows_of")
    for e in P(count):
        for i in P(rows_of[e].tiles(TILE)):
            for j in P(h[0].tiles(WIDTH)):
                gate_and_up[e, i, j](x=x[rows_of[e][i], :], w1=w1[e, :, j], w3=w3[e, :, j], out=h[rows_of[e][i], j])
    for e in P(count):
        for i in P(rows_of[e].tiles(TILE)):
            for j in P(out[0].tiles(WIDTH)):
                down[e, i, j](x=h[rows_of[e][i], :], w=w2[e, :, j], out=out[rows_of[e][i], j])
    return out


@kernel
def scale(x: In[Tensor], weight: In[Tensor], out: Out[Tensor]):
    pto.store(out, pto.rowmul(x, weight))


@kernel
def add(x: In[Tensor], weight: In[Tensor], out: InOut[Tensor]):
    pto.store(out, out + pto.rowmul(x, weight))


@workload
def combine(results: Tensor, weight: Tensor):
    """results [top, tokens, hidden]; weight [tokens, top]. Gives [tokens, hidden]."""
    top, tokens, hidden = results.shape
    out = empty((tokens, hidden), DType.F32)
    for i in P(out.tiles(TILE)):
        scale[i](x=results[0][i], weight=weight[i, 0:1], out=out[i])
        for c in range(1, top):
            add[i](x=results[c][i], weight=weight[i, c : c + 1], out=out[i])
    return out


# What moves: JAX.


class Weights(NamedTuple):
    router: Any  # [hidden, experts]
    bias: Any  # [1, experts]
    w1: Any  # [experts, hidden, ffn], of which a device has its experts
    w3: Any
    w2: Any  # [experts, ffn, hidden]


class Outcome(NamedTuple):
    out: Any  # [tokens, hidden]
    choice: Any  # [top, tokens]
    rounds: Any  # [devices]: the same number on all of them


DIVIDED, WHOLE = PartitionSpec(AXIS), PartitionSpec()
WEIGHTS = Weights(WHOLE, WHOLE, DIVIDED, DIVIDED, DIVIDED)
OUTCOME = Outcome(DIVIDED, PartitionSpec(None, AXIS), DIVIDED)


def ordered(of: Any, experts: int) -> tuple[Any, Any]:
    """Entries in the order of their experts, and of themselves within one, and where each expert begins: [experts + 1], the last ends.

    By counting. (Jitted by jax 0.6.2, all devices of a `shard_map` may get the order of the first one from `jnp.argsort`.)
    """
    hit = of[:, None] == jnp.arange(experts)
    start = jnp.pad(hit.sum(axis=0, dtype=jnp.int32).cumsum(), (1, 0))
    place = jnp.where(hit, start[:-1] + hit.cumsum(axis=0) - 1, 0).sum(axis=1)
    number = jnp.arange(len(of), dtype=jnp.int32)
    return jnp.zeros_like(of).at[jnp.where(of < experts, place, len(of))].set(number, mode="drop"), start


def mixture(mesh: Mesh, sizes: Sizes, threads: int | None) -> Any:
    """layer(x, weights) gives the outcome, jitted. threads: of each device."""
    devices = mesh.devices.size
    capacity, top = sizes.rows(devices), sizes.top
    run_route, run_experts, run_combine = (as_jax(f, threads=threads) for f in (route, experts, combine))

    def shard(x: Any, weights: Weights) -> Outcome:
        tokens, here = len(x), len(weights.w1)
        weight, choice = run_route(x, weights.router, weights.bias, top)

        # Entry c * tokens + t is choice c of token t. Sorted by expert they are sorted by device.
        of = choice.reshape(-1)
        entries, start = ordered(of, here * devices)
        begin, end = start[:-1:here], start[here::here]  # of each device

        starts = lax.all_gather(start, AXIS)  # [devices, experts + 1]
        most = (starts[:, here::here] - starts[:, :-1:here]).max()
        rounds = -(-most // capacity)
        arriving = lax.dynamic_slice_in_dim(starts, lax.axis_index(AXIS) * here, here + 1, axis=1)
        arriving = (
            arriving[:, 1:] - arriving[:, :1]
        )  # [devices, here]: where each expert's rows end in what a device sends here

        def exchange(carry: tuple[Any, Any]) -> tuple[Any, Any]:
            number, results = carry
            at = number * capacity + jnp.arange(capacity)
            place = begin[:, None] + at
            entry = jnp.where(place < end[:, None], entries[place.clip(max=len(entries) - 1)], len(entries))
            came = lax.all_to_all(x[entry % tokens], AXIS, 0, 0)  # [devices, capacity, hidden]; from `end` on, any rows
            expert = (arriving[:, None] <= at[:, None]).sum(axis=2, dtype=jnp.int32)  # of what is no row `here`
            row, indptr = ordered(expert.reshape(-1), here)
            y = run_experts(came.reshape(-1, came.shape[2]), *weights[2:], indptr, row)
            back = lax.all_to_all(y.reshape(came.shape), AXIS, 0, 0)
            return number + 1, results.at[entry].set(back, mode="drop")

        results = jnp.tile(x, (top, 1))  # of which each row is replaced, in one of the rounds
        first = jnp.zeros_like(rounds)
        _, results = lax.while_loop(lambda carry: carry[0] < rounds, exchange, (first, results))
        return Outcome(run_combine(results.reshape(top, *x.shape), weight), choice, rounds[None])

    return jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=(DIVIDED, WEIGHTS), out_specs=OUTCOME))


# Inputs: each device's part is made where it is needed.


def tokens_of(sizes: Sizes) -> Array:
    return np.random.default_rng(0).standard_normal((sizes.tokens, sizes.hidden), dtype=np.float32)


def router_of(sizes: Sizes) -> tuple[Array, Array]:
    """Its weights, and biases that send more tokens to the first experts, and none to the last where others are enough."""
    w = np.random.default_rng(1).standard_normal((sizes.hidden, sizes.experts), dtype=np.float32)
    bias = np.linspace(SKEW, -SKEW, sizes.experts, dtype=np.float32)[None]
    bias[0, -1] = NEVER
    return w / np.float32(np.sqrt(sizes.hidden)), bias


def expert_of(sizes: Sizes, e: int) -> tuple[Array, Array, Array]:
    """w1, w3 and w2 of one expert."""
    random, shape = np.random.default_rng([2, e]), (sizes.hidden, sizes.ffn)
    w1, w3, w2 = (random.standard_normal(s, dtype=np.float32) for s in (shape, shape, shape[::-1]))
    return tuple(w / np.float32(np.sqrt(len(w))) for w in (w1, w3, w2))  # type: ignore[return-value]


def placed(mesh: Mesh, sizes: Sizes) -> tuple[Any, Weights]:
    """Tokens and weights on the devices of this process."""

    def array(spec: PartitionSpec, shape: tuple[int, ...], part: Callable[[tuple[slice, ...]], Array]) -> Any:
        return jax.make_array_from_callback(shape, NamedSharding(mesh, spec), part)

    def stacked(i: int) -> Any:
        shape = expert_of_shape[i]
        numbers = range(sizes.experts)
        return array(
            DIVIDED, (sizes.experts, *shape), lambda at: np.stack([expert_of(sizes, e)[i] for e in numbers[at[0]]])
        )

    expert_of_shape = ((sizes.hidden, sizes.ffn),) * 2 + ((sizes.ffn, sizes.hidden),)
    x, (router, bias) = tokens_of(sizes), router_of(sizes)
    given = (array(WHOLE, a.shape, a.__getitem__) for a in (router, bias))
    return array(DIVIDED, x.shape, x.__getitem__), Weights(*given, *map(stacked, range(3)))


# What the numbers should be.


def estimate(sizes: Sizes, tokens: slice, choice: Array) -> Estimate:
    """In float64, of these tokens with these choices, [top, tokens], and how far roundings in f32 take it."""
    x, (router, bias) = tokens_of(sizes)[tokens], router_of(sizes)
    logits = Estimate.exact(x) @ Estimate.exact(router) + Estimate.exact(bias)
    number = np.arange(len(x))
    weight = Estimate(logits.value[number, choice].T, logits.variance[number, choice].T).softmax()
    terms = [Estimate(np.zeros(x.shape), np.zeros(x.shape)) for _ in choice]
    for e in np.unique(choice):
        w1, w3, w2 = map(Estimate.exact, expert_of(sizes, int(e)))
        c, t = np.nonzero(choice == e)
        a = Estimate.exact(x[t])
        y = ((a @ w1).silu() * (a @ w3)) @ w2
        for term, of in zip(terms, range(len(choice)), strict=True):
            term.value[t[c == of]], term.variance[t[c == of]] = y.value[c == of], y.variance[c == of]
    weighted = [term * weight[:, c : c + 1] for c, term in enumerate(terms)]
    return sum(weighted[1:], start=weighted[0])


def wrong_choices(sizes: Sizes, tokens: slice, choice: Array) -> int:
    """Tokens of which an expert was chosen whose exact logit lies below that of one that was not, by more than errors explain."""
    x, (router, bias) = tokens_of(sizes)[tokens], router_of(sizes)
    logits = Estimate.exact(x) @ Estimate.exact(router) + Estimate.exact(bias)
    chosen = np.zeros(logits.value.shape, bool)
    chosen[np.arange(len(x)), choice] = True
    low = np.where(chosen, logits.value + logits.bound, np.inf).min(axis=1)
    high = np.where(chosen, -np.inf, logits.value - logits.bound).max(axis=1)
    return int(((chosen.sum(axis=1) != len(choice)) | (low < high)).sum())


def of_bound(sizes: Sizes, tokens: slice, out: Array, choice: Array) -> float:
    """How far these tokens' results lie from float64, as a part of the bound: at most 1, or they are wrong."""
    if wrong_choices(sizes, tokens, choice):
        return np.inf
    return estimate(sizes, tokens, choice).compared(out)[1]


# In JAX alone.


def padded(sizes: Sizes, fullest: int) -> Any:
    """layer(x, weights) gives the results and the choices, on one device. Every expert computes `fullest` rows: no expert may have more."""

    def layer(x: Any, weights: Weights) -> tuple[Any, Any]:
        best, index = lax.top_k(x @ weights.router + weights.bias, sizes.top)
        of = index.T.reshape(-1)
        entries, start = ordered(of, sizes.experts)
        place = start[:-1, None] + jnp.arange(fullest)
        entry = jnp.where(place < start[1:, None], entries[place.clip(max=len(entries) - 1)], len(entries))
        rows = x[entry % len(x)]  # [experts, fullest, hidden]
        h = jax.nn.silu(jnp.einsum("ecd,edf->ecf", rows, weights.w1)) * jnp.einsum("ecd,edf->ecf", rows, weights.w3)
        y = jnp.einsum("ecf,efd->ecd", h, weights.w2)
        results = jnp.zeros((len(entries), x.shape[1]), x.dtype).at[entry].set(y, mode="drop")
        weight = jax.nn.softmax(best).T[:, :, None]
        return (results.reshape(sizes.top, *x.shape) * weight).sum(axis=0), index.T

    return jax.jit(layer)
