"""What a pipeline's buffers ask of memory, and what of them is left."""

import pickle
import re

import numpy as np
import pytest

from pto_wsp import (
    Channel,
    DType,
    ExecutionError,
    In,
    Out,
    P,
    Program,
    Tensor,
    Tile,
    UnsupportedError,
    empty,
    kernel,
    pto,
    send,
    workload,
)

F32 = DType.F32
TILE = Tile[4, 8, F32]


@kernel
def copy(x: In[TILE], out: Out[TILE]):
    pto.store(out, x)


def copied(depth: int) -> Program:
    x, y = (np.ones((4, 4, 8), np.float32) * k for k in range(2))

    @workload
    def w(x: Tensor, y: Tensor) -> None:
        views = Channel[Tensor](depth=depth)
        with P.pipe():
            for i in P.seq(4):
                send(views, copy[i](x=x[i], out=empty((4, 8), F32)))
            for i in P.seq(4):
                copy[i](x=views.recv(), out=y[i])

    return w(x, y).compile()


def test_the_channel_whose_buffers_are_too_many_is_named() -> None:
    with pytest.raises(ExecutionError, match=r"PTO715") as caught:
        copied(2**31 - 1).run()
    assert caught.value.values == {"buffers": "2,147,483,647 of channel views, as many as it is deep"}
    assert caught.value.fix.startswith("make channel views less deep, ")


def test_free_buffers_are_no_tokens_that_nobody_received() -> None:
    stats = copied(3).run().stats
    assert stats.semantic.channels["views"].undelivered == 0
    assert stats.semantic.channels["views.free"].undelivered == 3
    assert "nobody received" not in str(stats)


def test_programs_say_how_they_are_kept() -> None:
    with pytest.raises(UnsupportedError, match=re.escape("Program.from_bytes")) as caught:
        pickle.dumps(copied(1))
    assert caught.value.code == "PTO003"
