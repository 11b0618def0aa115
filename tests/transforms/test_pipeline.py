"""pipeline and pipeline_loop: before and after as text, how they nest, and what is refused."""

from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from bodies import body
from pto_wsp import (
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Scalar,
    ScheduleError,
    TaskWindow,
    Tensor,
    Tile,
    TraceError,
    UnsupportedError,
    Workload,
    combine,
    empty,
    empty_like,
    item,
    jit,
    kernel,
    make_wir,
    pipeline,
    pipeline_loop,
    pto,
    slot_i64,
    slot_set_i64,
    vmap,
    workload,
)
from pto_wsp.ir.evaluate import evaluate
from pto_wsp.ir.text import parse, show
from pto_wsp.ir.verify import verify
from pto_wsp.trace.workload import Traced

F32, I64 = DType.F32, DType.I64
TILE = Tile[4, 4, F32]


@kernel
def double(x: In[TILE], y: Out[TILE]):
    pto.store(y, x + x)


@kernel
def shift(x: In[TILE], y: Out[TILE]):
    pto.store(y, x + 1)


@kernel
def add(x: In[TILE], y: InOut[TILE]):
    pto.store(y, x + y)


@kernel
def scale(x: In[TILE], s: Scalar[I64], y: Out[TILE]):
    pto.store(y, x * pto.cast(pto.full((4, 4), 0, I64) + s, F32))


def piped(w: Workload, loop: str = "i", depth: int = 2) -> Workload:
    """The workload with a pipeline in the place of a loop, which computes the same bits."""
    out = w.pipeline_loop(loop=loop, depth=depth)
    verify(out.wir)
    assert parse(show(out.wir)) == out.wir
    assert pipeline_loop(loop=loop, depth=depth)(w) == out
    given = {n: np.array(t.data) for n, t in w.tensors.items() if isinstance(t, Tensor)}
    results: list[list[bytes]] = []
    for wir in (w.wir, out.wir):
        arrays = {n: a.copy() for n, a in given.items()}
        made = evaluate(wir, arrays)
        results.append([a.tobytes() for a in (*arrays.values(), *made.values())])
    assert results[0] == results[1]
    return out


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def rows(w: Traced) -> str:
    return body(w)  # type: ignore[arg-type]


# before and after


def test_memory_of_an_iteration_becomes_buffers() -> None:
    @workload
    def w(x: Any, y: Any) -> None:
        for i in P(5):
            t = empty((4, 4), F32)
            double[i](x=x[i], y=t)
            shift[i](x=t, y=y[i])

    before = w(ones(5, 4, 4), ones(5, 4, 4))
    after = piped(before, depth=3)
    assert "temporary t: f32[5,4,4]" in str(before)
    assert "temporary t: f32[3,4,4]" in str(after)
    assert (
        rows(after)
        == dedent(
            """
        pipeline[name="pipe", timed=false] {
          double_shift: channel<i64, i64> = channel[depth=3, initial=0, latency=0, name="double_shift", response=0]
          double_shift.free: channel<i64> = channel[depth=3, initial=3, latency=0, name="double_shift.free", response=0]
          process[consumes=["double_shift.free"], name="double", produces=["double_shift"]] {
            seq_for i in i: Range(5) {
              double_shift.b: i64 = recv double_shift.free
              task double[i](x=x[i, 0 :+ 4, 0 :+ 4], y=t[double_shift.b, 0 :+ 4, 0 :+ 4])
              send double_shift (i) (double_shift.b)
            }
          }
          process[consumes=["double_shift"], name="shift", produces=["double_shift.free"]] {
            consume double_shift as i.1, double_shift.b.1 {
              task[names=["i"]] shift[i.1](x=t[double_shift.b.1, 0 :+ 4, 0 :+ 4], y=y[i.1, 0 :+ 4, 0 :+ 4])
              send double_shift.free (double_shift.b.1)
            }
          }
        }
        """
        ).strip()
    )


def test_scalars_go_with_tokens_and_tensors_of_the_user_by_order() -> None:
    @workload
    def w(x: Any, n: Any, y: Any) -> None:
        for i in P(3):
            s = item(n[i])
            scale[i](x=x[i], s=s, y=y[i])
            add[i](x=x[s], y=y[i])

    after = piped(w(ones(3, 4, 4), np.arange(3), ones(3, 4, 4)))
    assert (
        rows(after)
        == dedent(
            """
        pipeline[name="pipe", timed=false] {
          scale_add: channel<i64, i64> = channel[depth=2, initial=0, latency=0, name="scale_add", response=0]
          process[consumes=[], name="scale", produces=["scale_add"]] {
            seq_for i in i: Range(3) {
              s: i64 = item n[i]
              task scale[i](x=x[i, 0 :+ 4, 0 :+ 4], s=s, y=y[i, 0 :+ 4, 0 :+ 4])
              send scale_add (i) (s)
            }
          }
          process[consumes=["scale_add"], name="add", produces=[]] {
            consume scale_add as i.1, s.1 {
              task[names=["i"]] add[i.1](x=x[s.1, 0 :+ 4, 0 :+ 4], y=y[i.1, 0 :+ 4, 0 :+ 4])
            }
          }
        }
        """
        ).strip()
    )


def test_what_skips_a_stage_goes_through_it() -> None:
    @workload
    def w(x: Any, y: Any, z: Any) -> None:
        for i in P.seq(3):
            t = empty((4, 4), F32)
            double[i](x=x[i], y=t)
            shift[i](x=x[i], y=y[i])
            add[i](x=t, y=z[i])

    text = str(piped(w(ones(3, 4, 4), ones(3, 4, 4), ones(3, 4, 4)), depth=4))
    # memory that the iterations share has a part for each buffer, in front
    assert "temporary t: f32[4,4,4]" in text
    assert "send double_shift (i) (double_add.b)" in text
    assert "consume double_shift as i.1, double_add.b.1" in text
    assert "send shift_add (i.1) (double_add.b.1)" in text
    assert "send double_add.free (double_add.b.2)" in text


def test_tiles_of_a_tensor_of_all_iterations_become_buffers() -> None:
    @workload
    def first(x: Any) -> Any:
        y = empty_like(x)
        for i in P(x.tiles(4)):
            double[i](x=x[i], y=y[i])
        return y

    @workload
    def second(x: Any) -> Any:
        z = empty_like(x)
        for r in P(x.tiles(4)):
            shift[r](x=x[r], y=z[r])
        return z

    whole, tail = (str(pipeline(first, second)(ones(n, 4))) for n in (12, 11))
    assert "temporary y: f32[2,4,4]" in whole
    assert 'task[names=["r"]] shift[i.1](x=y[first_second.b.1, 0 :+ 4, 0 :+ 4], y=z[tile(i.1, 4, 12), 0 :+ 4])' in whole
    assert "x=y[first_second.b.1, tile(0, 4, min(-4*i.1 + 11, 4)), 0 :+ 4]" in tail
    x = ones(11, 4)
    assert (jit(pipeline(first, second, depth=3))(x) == 2 * x + 1).all()


def test_loops_and_branches_are_stages() -> None:
    @workload
    def w(x: Any, y: Any) -> None:
        for i in P.seq(2):
            for j in P(2):
                double[i, j](x=x[i, j], y=y[i, j])
            with P.when(i > 0):
                add[i](x=x[i, 0], y=y[i, 1])

    text = str(piped(w(ones(2, 2, 4, 4), ones(2, 2, 4, 4))))
    assert text.count("process[") == 2
    assert "parallel_for j in j: Range(2)" in text
    assert "cond " in text


def test_layers_that_are_written_out_are_stages() -> None:
    @workload
    def w(x: Any, y: Any) -> None:
        for i in P(3):
            for layer in P.seq(4):
                add[i, layer](x=x[layer], y=y[i])

    layers = w(ones(4, 4, 4), ones(3, 4, 4)).unroll(loop="layer")
    assert str(piped(layers)).count("process[") == 4


# nesting


@workload
def doubled(x: Any) -> Any:
    y = empty_like(x)
    for i in P(x.shape[0]):
        t = empty((4, 4), F32)
        double[i](x=x[i], y=t)
        double[i](x=t, y=y[i])
    return y


@workload
def shifted(x: Any) -> Any:
    y = empty_like(x)
    for i in P(x.shape[0]):
        shift[i](x=x[i], y=y[i])
    return y


def test_pipelines_are_workload_functions() -> None:
    x = ones(3, 4, 4)
    f = pipeline(doubled, shifted, depth=2)
    assert f(x).type == "Workload[(), {double, shift}, Channel]"
    assert "pipeline[" in str(make_wir(f)(Tensor(x, name="x")))
    assert (jit(f)(x) == 4 * x + 1).all()
    many = ones(2, 3, 4, 4)
    assert (jit(vmap(f))(many) == 4 * many + 1).all()

    @workload
    def twice(x: Any) -> Any:
        return f(f(x))

    assert (jit(twice)(x) == 16 * x + 5).all()
    assert str(twice(x)).count("pipeline[") == 2
    # what stages hand on is a buffer there too
    assert str(twice(x)).count("temporary y") == str(twice(x)).count("f32[2,4,4]") + 1


def test_a_pipeline_of_pipelines_is_one_of_their_stages() -> None:
    x = ones(5, 4, 4)
    nested = pipeline(pipeline(doubled, shifted, depth=4), shifted, depth=3)
    w = nested(x)
    text = str(w)
    assert text.count("process[") == 3
    assert 'channel[depth=4, initial=0, latency=0, name="doubled_shifted"' in text
    assert 'channel[depth=3, initial=0, latency=0, name="shifted_shifted.1"' in text
    assert (jit(nested)(x) == 4 * x + 2).all()


def test_functions_are_piped_as_workloads_are() -> None:
    @workload
    def two(x: Any, y: Any) -> None:
        for i in P(3):
            double[i](x=x[i], y=y[i])
            add[i](x=x[i], y=y[i])

    x, y = ones(3, 4, 4), ones(3, 4, 4)
    assert rows(pipeline_loop(loop="i")(two)(x, y)) == rows(pipeline_loop(loop="i")(two(x, y)))


@workload
def _blocks(x: Tensor, y: Tensor, beside: bool):
    """Rows in blocks of two; t has a part for each row."""
    t = empty_like(x)
    for o in P(x.shape[0] // 2) if beside else P.seq(x.shape[0] // 2):
        for i in P(2):
            double[o, i](x=x[2 * o + i], y=t[2 * o + i])
            shift[o, i](x=t[2 * o + i], y=y[2 * o + i])


@pytest.mark.parametrize(("beside", "shape"), [(True, "2,3,4,4"), (False, "2,4,4")])
def test_iterations_around_that_are_independent_have_buffers_of_their_own(beside: bool, shape: str) -> None:
    """Pipelines of one after another share them."""

    def made(rows: int) -> Workload:
        x = np.random.default_rng(0).random((rows, 4, 4), np.float32)
        return piped(_blocks(x, np.zeros_like(x), beside))

    of_six, of_two = made(6), made(2)
    assert f"temporary t: f32[{shape}]" in str(of_six)
    one, all_ = (w.compile().simulate().total_cycles for w in (of_two, of_six))
    assert all_ == (one if beside else 3 * one)


def test_blocks_of_a_split_loop_are_pipelines_beside_each_other() -> None:
    x = np.random.default_rng(0).random((7, 4, 4), np.float32)

    @workload
    def rows(x: Tensor, y: Tensor):
        t = empty_like(x)
        for i in P(x.shape[0]):
            double[i](x=x[i], y=t[i])
            shift[i](x=t[i], y=y[i])

    w = piped(rows(x, np.zeros_like(x)).split(loop="i", size=2), loop="i_i")
    assert "temporary t: f32[2,4,4,4]" in str(w)  # two buffers for each of four blocks
    block = piped(rows(x[:2], np.zeros_like(x[:2])))
    assert w.compile().simulate().total_cycles == block.compile().simulate().total_cycles


def test_a_pipeline_is_one_task_of_what_is_around() -> None:
    x = ones(6, 4, 4)
    plain = pipeline(doubled, shifted)(x).compile().run()
    bounded = pipeline(doubled, shifted)(x).window(TaskWindow(4)).compile().run()
    assert (bounded.results == plain.results).all()
    both = combine(pipeline(doubled, shifted)(Tensor(x, name="x")), pipeline(shifted, shifted)(Tensor(x + 1, name="z")))
    first, second = both.compile().run().results
    assert (first == 4 * x + 1).all()
    assert (second == x + 3).all()


def test_rewritten_functions_inside_of_workloads() -> None:
    step = doubled.pipeline_loop(loop="i", depth=2)

    @workload
    def around(x: Any) -> Any:
        return shifted(step(x))

    x = ones(4, 4, 4)
    text = str(around(x))
    assert "temporary t: f32[2,4,4]" in text
    assert text.index("pipeline[") < text.index("parallel_for")
    assert (jit(around)(x) == 4 * x + 1).all()


# refused


def refused(w: Any, what: str, loop: str = "i", **values: str) -> ScheduleError:
    with pytest.raises(ScheduleError, match=what) as caught:
        w.pipeline_loop(loop=loop) if isinstance(w, Workload) else w()
    for name, value in values.items():
        assert value in str(caught.value.values[name.replace("_", " ")])
    return caught.value


def test_a_dependence_that_runs_backward_is_named() -> None:
    @workload
    def behind(x: Any, y: Any) -> None:
        for i in P.seq(3):
            double[i](x=x[i], y=y[i])
            add[i](x=y[i + 2], y=x[i])

    e = refused(
        behind(ones(5, 4, 4), ones(5, 4, 4)),
        "stage add must be done with y before stage double comes to a later iteration",
        tensor="y",
        iterations_later="2",
        stage_double="double writes it",
        stage_add="add reads it",
    )
    assert "test_pipeline.py" in str(e.values["stage double"])
    assert e.code == "PTO870"

    @workload
    def forward(x: Any, y: Any) -> None:
        for i in P.seq(3):
            double[i](x=x[i], y=y[i + 2])
            add[i](x=y[i], y=x[i])

    piped(forward(ones(3, 4, 4), ones(5, 4, 4)))


def test_memory_that_iterations_build_on_is_no_buffer() -> None:
    @workload
    def kept(x: Any, y: Any) -> None:
        t = empty((4, 4), F32)
        for i in P.seq(3):
            add[i](x=x[i], y=t)
            double[i](x=t, y=y[i])

    refused(kept(ones(3, 4, 4), ones(3, 4, 4)), "must be done with t", iterations_later="1")

    @workload
    def perhaps(x: Any, n: Any, y: Any) -> None:
        for i in P.seq(3):
            t = empty((4, 4), F32)
            with P.when(item(n[i]) > 0):
                double[i](x=x[i], y=t)
            double[i](x=t, y=y[i])

    refused(perhaps(ones(3, 4, 4), np.arange(3), ones(3, 4, 4)), "must be done with t", iterations_later="perhaps 1")


def test_what_is_read_while_tasks_are_issued_counts() -> None:
    @kernel
    def count(n: InOut[Tile[1, 1, I64]]):
        pto.store(n, n + 1)

    @workload
    def w(n: Any, x: Any, y: Any) -> None:
        for i in P.seq(3):
            count[i](n=n)
            scale[i](x=x[i], s=item(n[0, 0]), y=y[i])

    refused(
        w(np.zeros((1, 1), np.int64), ones(3, 4, 4), ones(3, 4, 4)),
        "stage scale must be done with n",
        stage_scale="item reads it",
    )


def test_slots_and_after_do_not_go_from_stage_to_stage() -> None:
    @workload
    def slots(x: Any, y: Any) -> None:
        for i in P.seq(3):
            double[i](x=x[i], y=y[i])
            slot_set_i64(0, i)
            shift[i](x=x[i], y=y[i + 3])
            scale[i](x=x[i], s=slot_i64(0), y=y[i + 3])

    refused(slots(ones(3, 4, 4), ones(6, 4, 4)), "sets slot 0: what a process sets is gone")

    @workload
    def after(x: Any, y: Any) -> None:
        for i in P(3):
            first = double[i](x=x[i], y=y[i])
            shift[i](x=x[i], y=y[i + 3], after=first)

    refused(after(ones(3, 4, 4), ones(6, 4, 4)), "waits by after=")


def test_loops_without_stages() -> None:
    @workload
    def one(x: Any, y: Any) -> None:
        for i in P(3):
            for j in P(2):
                double[i](x=x[i, j], y=y[i, j])

    w = one(ones(3, 2, 4, 4), ones(3, 2, 4, 4))
    assert refused(w, "the body of the loop over i is one stage").code == "PTO409"
    assert refused(w, "no loop is called", loop="k").code == "PTO408"
    with pytest.raises(ScheduleError, match="depth is 0"):
        pipeline_loop(loop="i", depth=0)
    assert refused(w, "no loop is called ''", loop="").code == "PTO408"
    options: list[Callable[[], object]] = [
        lambda: w.pipeline_loop(loop="i", foo=3),
        lambda: pipeline_loop(loop="i", foo=3),
        lambda: pipeline(doubled, shifted, foo=1),
    ]
    for call in options:
        with pytest.raises(UnsupportedError, match="has no option foo") as caught:
            call()
        assert caught.value.code == "PTO003"
    piped_once = piped(_two(), depth=1)
    refused(piped_once, "send of a channel stands in the loop over i")


def _two() -> Workload:
    @workload
    def two(x: Any, y: Any) -> None:
        for i in P(3):
            double[i](x=x[i], y=y[i])
            add[i](x=x[i], y=y[i])

    return two(ones(3, 4, 4), ones(3, 4, 4))


def test_schedules_that_say_nothing_of_pipelines() -> None:
    e = refused(_two().dispatch(DispatchPolicy.round_robin(2)), "dispatch around pipeline pipe")
    assert e.code == "PTO404"
    assert e.loc is not None
    assert "test_pipeline.py" in e.loc.file
    once = copied.streams(2)

    @workload
    def w(x: Any, y: Any) -> None:
        for i in P(3):
            once(x[i], y[i])
            add[i](x=x[i], y=y[i])

    refused(w(ones(3, 4, 4), ones(3, 4, 4)), "streams inside of process double")


@workload
def copied(x: Any, y: Any) -> None:
    double(x=x, y=y)


def test_functions_that_are_no_such_loops() -> None:
    @workload
    def all_of_it(x: Any) -> Any:
        y = empty_like(x)
        for i in P(x.shape[0]):
            double[i](x=x[2 - i], y=y[i])
        return y

    @workload
    def halves(x: Any) -> Any:
        y = empty_like(x)
        for i in P(6):
            double[i](x=x[i // 2], y=y[i // 2])
        return y

    @workload
    def once(x: Any) -> Any:
        y = empty((4, 4), F32)
        double(x=x[0], y=y)
        return y

    x = ones(3, 4, 4)
    e = refused(lambda: pipeline(shifted, all_of_it)(x), "stage all_of_it must be done with y before stage shifted")
    assert (e.code, e.values["iterations later"]) == ("PTO870", "2")
    e = refused(
        lambda: pipeline(shifted, once)(x), "once is not one loop but task", tensor="y", stage_once="double reads it"
    )
    assert e.code == "PTO872"
    refused(lambda: pipeline(shifted, pipeline(shifted, shifted).window(TaskWindow(2)))(x), "is not one loop but")
    refused(lambda: pipeline(shifted, halves)(x), "halves runs 6 iterations, shifted runs 3", tensor="y")

    @workload
    def reads(x: Any) -> Any:
        y = empty_like(x)
        s = item(x[0, 0, 0]) > 0
        for i in P(3):
            with P.when(s):
                double[i](x=x[i], y=y[i])
        return y

    refused(lambda: pipeline(shifted, reads)(x), "reads y before its loop")
    with pytest.raises(TraceError, match="pipeline of 1 functions"):
        pipeline(shifted)
