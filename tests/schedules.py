"""Random schedules for property tests: any directive, of any part of a workload, with keys over whatever its tasks have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from pto_wsp import (
    DispatchPolicy,
    DType,
    Out,
    Pools,
    ReadyPolicy,
    ScheduleError,
    StartPolicy,
    TaskWindow,
    Tile,
    TimingPolicy,
    WindowMode,
    dispatch,
    kernel,
    pto,
    register_policy,
    stream_by,
    streams,
    task_graph,
    timing,
    where,
    window,
)
from pto_wsp.ir.core import Axis

Draw = Callable[[Any], Any]
LARGEST = 160  # bytes that a task writes at most, in `workloads`

register_policy("dispatch", "tests_diagonal", lambda t, a: (t.position * a + t.id) % t.lanes)
register_policy("dispatch", "tests_some_loaded", lambda t: where(t.position % 3 == 0, 1, t.least_loaded), pin=True)
register_policy("ready", "tests_last_first", lambda t: t.position)
register_policy("timing", "tests_slower", lambda t, n: t.cost // n)
register_policy("pools", "tests_turns", lambda t, n: t.id % n)


@kernel
def work(y: Out[Tile[1, 1, DType.F32]]):
    """What some workloads call kernels of theirs: policies ask for it in others as well."""
    pto.store(y, pto.full((1, 1), 1, DType.F32))


def names_of(w: Any) -> list[str]:
    """What coordinates of tasks may be called."""
    eqns = [e for top in w.wir.body.eqns for e in top.walk()]
    loops = [e for e in eqns if isinstance(e.params.get("axis"), Axis)]
    return sorted({n for e in loops for n in (str(e.params["loop"]), e.params["axis"].name)} | {"i0", "i1"})


def key(draw: Draw, names: list[str]) -> Callable[[Any], Any]:
    """A function of the task that gives an integer."""
    a, b = draw(st.sampled_from(names)), draw(st.sampled_from(names))
    n, m = draw(st.integers(-3, 3)), draw(st.integers(1, 5))
    forms: list[Callable[[Any], Any]] = [
        lambda t: t.get(a),
        lambda t: t.get(a, n),
        lambda t: t.get(a, n) * t.get(b, m) - n,
        lambda t: t.get(b, 0) // m + n * t.get(a, 1),
        lambda t: (t.get(a, 0) - n) % m,
        lambda t: where(t.kernel == work, t.get(a, n), t.position - m),
        lambda t: t.position // m,
        lambda t: t.id * n,
        lambda t: t.cost % m,
        lambda t: t.first_appearance(t.get(a, 0) // m) + t.first_appearance(t.get(b, 0)) * n,
        lambda t: t.splitmix64(t.get(a, 0) + n),
        lambda t: t.unit * n + t.get(b, m),
        lambda t: n,
    ]
    return draw(st.sampled_from(forms))


def sure_key(draw: Draw, names: list[str]) -> Callable[[Any], Any]:
    """The same, of any task."""
    a, n, m = draw(st.sampled_from(names)), draw(st.integers(-3, 3)), draw(st.integers(1, 5))
    forms: list[Callable[[Any], Any]] = [
        lambda t: t.get(a, n) * m,
        lambda t: t.position - t.get(a, 0),
        lambda t: t.first_appearance(t.get(a, n)) + t.cost,
    ]
    return draw(st.sampled_from(forms))


def size(draw: Draw, most: int) -> int:
    return draw(st.integers(1, most))


def dispatch_of(draw: Draw, names: list[str]) -> Any:
    n = draw(st.sampled_from((None, 1, 2, 3, 5)))
    k, a = key(draw, names), draw(st.integers(1, 3))
    policies: list[Callable[[], Any]] = [
        lambda: DispatchPolicy.round_robin(n),
        lambda: DispatchPolicy.affinity(k, n),
        lambda: DispatchPolicy.hash(k, n),
        lambda: DispatchPolicy.dispatch_by(k, n),
        lambda: DispatchPolicy.least_loaded(n),
        lambda: DispatchPolicy.work_steal(n),
        lambda: DispatchPolicy.tests_diagonal(a, lanes=n),
        lambda: DispatchPolicy.tests_some_loaded(lanes=n),
    ]
    return draw(st.sampled_from(policies))()


def window_of(draw: Draw, least: int = 1) -> TaskWindow:
    """A window; one in bytes has `least` at least."""
    mode = draw(st.sampled_from((WindowMode.STALL, WindowMode.STALL, WindowMode.BENCHMARK)))
    if draw(st.booleans()):
        return TaskWindow(size(draw, 6), mode=mode)
    return TaskWindow(draw(st.integers(least, 400)), "bytes", mode)


def ready_of(draw: Draw, names: list[str]) -> Any:
    k = key(draw, names)
    policies: list[Callable[[], Any]] = [
        lambda: ReadyPolicy.fifo,
        lambda: ReadyPolicy.work_steal,
        lambda: ReadyPolicy.priority(k),
        ReadyPolicy.longest_processing_time,
        lambda: ReadyPolicy.longest_processing_time(k),
        ReadyPolicy.tests_last_first,
    ]
    return draw(st.sampled_from(policies))()


def timing_of(draw: Draw) -> Any:
    n = size(draw, 5)
    policies = (
        TimingPolicy.immediate,
        TimingPolicy.batched(n),
        TimingPolicy.rate_limit(draw(st.sampled_from((1e4, 3e5, 7e4)))),
        TimingPolicy.tests_slower(n),
    )
    return draw(st.sampled_from(policies))


def pools_of(draw: Draw) -> Any:
    some = {f"p{i}": size(draw, 3) for i in range(draw(st.integers(1, 3)))}
    n = len(some)
    policies = (
        Pools.single,
        Pools.by_exec_unit,
        Pools.custom(lambda t: t.id % n, some),
        Pools.custom(lambda t: where(t.kernel == work, n - 1, 0), some),
        Pools.tests_turns(some, n),
    )
    return draw(st.sampled_from(policies))


def of_part(draw: Draw, w: Any, most: int = 3) -> Any:
    """w under up to `most` directives that a part may say. What its tasks do not have, what would decide nothing,
    and windows that are too small for a task are left out."""
    names = names_of(w)
    for _ in range(draw(st.integers(0, most))):
        step = directive(draw, names)
        try:
            w = step(w)
        except ScheduleError as e:
            if e.code not in ("PTO411", "PTO418") and "a window of" not in e.what:
                raise
    return w


def directive(draw: Draw, names: list[str]) -> Callable[[Any], Any]:
    """A directive that a part may say."""
    which = draw(st.sampled_from(("dispatch", "streams", "stream_by", "window", "ready", "timing")))
    match which:
        case "dispatch":
            return dispatch(dispatch_of(draw, names))
        case "streams":
            return streams(size(draw, 4))
        case "stream_by":
            return stream_by(key(draw, names))
        case "window":
            return window(window_of(draw))
        case "ready":
            return task_graph(ready=ready_of(draw, names))
        case _:
            return timing(timing_of(draw))


def of_loop(draw: Draw, names: list[str]) -> Callable[[Any], Any] | None:
    """What a workload that is called inside of another is scheduled by."""
    kinds = ("dispatch", "streams", "stream_by", "window", "ready", "timing")
    chosen = draw(st.lists(st.sampled_from(kinds), unique=True, max_size=2)) if draw(st.integers(0, 2)) == 0 else []
    if not chosen:
        return None
    n, k, bound, time = size(draw, 4), sure_key(draw, names), window_of(draw, LARGEST), timing_of(draw)
    say: dict[str, Callable[[Any], Any]] = {
        "dispatch": lambda w: w.dispatch(DispatchPolicy.affinity(k, n)),
        "streams": lambda w: w.streams(n),
        "stream_by": lambda w: w.stream_by(k),
        "window": lambda w: w.window(bound),
        "ready": lambda w: w.task_graph(ready=ReadyPolicy.priority(k)),
        "timing": lambda w: w.timing(time),
    }

    def schedule(w: Any) -> Any:
        for kind in chosen:
            w = say[kind](w)
        return w

    return schedule


def of_whole(draw: Draw, w: Any) -> Any:
    """w with what only the whole may say too."""
    w = of_part(draw, w)
    if draw(st.booleans()):
        w = w.task_graph(pools=pools_of(draw))
    if draw(st.integers(0, 2)) == 0:
        w = w.task_graph(start=draw(st.sampled_from((StartPolicy.after_orchestration, StartPolicy.threshold(3)))))
    if draw(st.integers(0, 2)) == 0:
        try:
            w = w.timing(TimingPolicy.interleaved(size(draw, 4)))
        except ScheduleError as e:
            if e.code != "PTO418":
                raise
    return w
