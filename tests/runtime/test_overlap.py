"""Tasks that may run at once do, on threads that sleep until they are called: each waits inside until it has met another."""

import time

import numpy as np
import pytest

from pto_wsp import DType, In, Out, Scalar, Tensor, Tile, item, kernel, workload

I64 = DType.I64
ROUNDS = 12
HEADERS = ["<atomic>", "<chrono>", "<thread>"]

MEET = """
static std::atomic<int> here[64];
std::atomic<int>& now = here[round];
now.fetch_add(1);
const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
while (now.load() < 2 && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::microseconds(50));
out(0, 0) = now.load();
"""


@kernel(cpp_src=MEET, cpp_includes=HEADERS, cost=10)
def meet(x: In[Tile[1, 1, I64]], round: Scalar[I64], out: Out[Tile[1, 1, I64]]): ...


@kernel(
    cpp_src="std::this_thread::sleep_for(std::chrono::milliseconds(1)); out(0, 0) = 1;", cpp_includes=HEADERS, cost=10
)
def first(out: Out[Tile[1, 1, I64]]): ...


@workload
def fork(a: Tensor, rounds: Tensor, met: Tensor) -> None:
    """One task makes two ready at once."""
    first(out=a[0:1])
    meet(x=a[0:1], round=item(rounds[0, 0]), out=met[0:1])
    meet(x=a[0:1], round=item(rounds[0, 0]), out=met[1:2])


@pytest.mark.parametrize("threads", [2, 4])
def test_a_task_that_makes_two_ready_calls_a_thread_for_the_other(threads: int) -> None:
    met, rounds = np.zeros((2, 1), np.int64), np.zeros((1, 1), np.int64)
    program = fork(np.zeros((1, 1), np.int64), rounds, met).compile(threads=threads)
    for k in range(ROUNDS):
        rounds[:] = k if threads == 2 else 20 + k
        time.sleep(0.002)  # the threads of the pool sleep again
        program.run()
        assert met.ravel().tolist() == [2, 2], f"run {k}"
