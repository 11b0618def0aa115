"""Rows of workloads in operations of JAX, `lower_to_jax`, beside the same written by hand, both under jax.jit."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pto_wsp.tools.bench import attention, llama, rows
from pto_wsp.tools.bench.arms import Array, has_jax, in_n_eps, jitted, medians

PIECE = 1024  # positions of a task of the decode

Shape = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """A function of jax.numpy and these arrays."""

    f: Callable[..., Any]
    arrays: Sequence[Array]


@dataclass(frozen=True)
class Pair:
    """error: of a result, the largest difference from float64, over that which it may have."""

    ours: Arm
    by_hand: Arm
    error: Callable[[Array], float]


def lowered_row(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
    """Milliseconds of both arms, and ours over the other. Ends the process where a number is wrong."""
    if not has_jax():
        return {"peers": {}, "missing": ["jax"]}
    pair = PAIRS[name](shape)
    calls = {arm: jitted(of.f, *of.arrays) for arm, of in (("ours", pair.ours), ("by hand", pair.by_hand))}
    errors = {arm: pair.error(np.asarray(call())) for arm, call in calls.items()}
    for arm, error in errors.items():
        if not error <= 1:
            sys.exit(f"{name}, {arm}: the error is {error:.3g} times what it may be")
    ours, by_hand = (seconds * 1e3 for seconds in medians(calls, repeats).values())
    figures = {"ms": ours, "by_hand_ms": by_hand, "over_by_hand": ours / by_hand, "of_tolerance": errors["ours"]}
    return figures | {"peers": {}, "missing": []}


def _lowered(workload: Any, *, like: Array, **options: Any) -> Callable[..., Any]:
    """A workload that writes its last array, which is memory like this."""
    memory = importlib.import_module("jax").ShapeDtypeStruct(like.shape, like.dtype)
    run = importlib.import_module("pto_wsp_jax").lower_to_jax(workload)

    def call(_: Any, *arrays: Any) -> Any:
        return run(*arrays, out=memory, **options)

    return call


# Errors, in units of n * eps times the sum of the magnitudes that are added up: each term is rounded less often than that, in any order.


def rmsnorm_pair(shape: Shape) -> Pair:
    x, _, of_a_task = rows.arrays(shape)

    def error(got: Array) -> float:
        exact = rows.exact_rmsnorm(x)
        return in_n_eps(got, exact, x.shape[1], np.abs(exact))[0]

    ours = Arm(_lowered(rows.rmsnorm, like=x, rows=of_a_task), (x,))
    return Pair(ours, Arm(rows.rmsnorm_of_jax, (x,)), error)


def softmax_pair(shape: Shape) -> Pair:
    x, _, of_a_task = rows.arrays(shape)

    def error(got: Array) -> float:
        exact = rows.exact_softmax(x)
        return in_n_eps(got, exact, x.shape[1], exact)[0]

    ours = Arm(_lowered(rows.softmax, like=x, rows=of_a_task), (x,))
    return Pair(ours, Arm(rows.softmax_of_jax, (x,)), error)


def attention_pair(shape: Shape) -> Pair:
    q, k, v = given = attention.heads_of_sequence(shape)
    causal = shape["causal"]

    def error(got: Array) -> float:
        return attention.sequence_error(q, k, v, got, causal=causal)[0]

    ours = Arm(_lowered(attention.prefill, like=q, causal=causal), given)
    return Pair(ours, Arm(functools.partial(attention.dense, causal=causal), given), error)


def llama_pair(shape: Shape) -> Pair:
    given = llama.arrays(shape)
    run = _lowered(llama.blocks, like=given[0])

    def ours(jnp: Any, x: Any, cos: Any, sin: Any, *weights: Any) -> Any:
        return run(jnp, x, cos, sin, weights)

    return Pair(Arm(ours, given), Arm(llama.by_arrays, given), lambda got: llama.error_of(given, got)[0])


def decode_pair(shape: Shape) -> Pair:
    """Over pages, in pieces; by hand over contiguous keys and values that are padded to the longest."""
    batch = attention.Batch.of(shape)
    paged = (batch.q, batch.k, batch.v, batch.table, *batch.pieces(PIECE))
    padded = (batch.q, *batch.padded(max(batch.lengths)), np.array(batch.lengths, np.int32))
    ours = Arm(_lowered(attention.decode_in_pieces, like=batch.q), paged)
    return Pair(ours, Arm(attention.masked, padded), lambda got: batch.error(got)[0])


def contiguous_pair(shape: Shape) -> Pair:
    """Both over contiguous keys and values that are padded to the longest."""
    batch = attention.Batch.of(shape)
    given = (batch.q, *batch.padded(max(batch.lengths)), np.array(batch.lengths, np.int32))
    ours = Arm(_lowered(attention.decode_contiguous, like=batch.q), given)
    return Pair(ours, Arm(attention.masked, given), lambda got: batch.error(got)[0])


PAIRS: dict[str, Callable[[Shape], Pair]] = {
    "lowered_rmsnorm": rmsnorm_pair,
    "lowered_softmax": softmax_pair,
    "lowered_attention": attention_pair,
    "lowered_prefill": attention_pair,
    "lowered_llama_block": llama_pair,
    "lowered_decode": decode_pair,
    "lowered_decode_many": decode_pair,
    "lowered_decode_contiguous": contiguous_pair,
}
