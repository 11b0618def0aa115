"""Searching for schedules: what is tried, what it costs, that no result changes, and that a search goes on where it was."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from project import ROOT
from pto_wsp import (
    ArtifactError,
    AutoScheduler,
    BindError,
    Constexpr,
    Dense,
    DenseDyn,
    DispatchPolicy,
    DType,
    In,
    InOut,
    Out,
    P,
    Program,
    Ragged,
    ReadyPolicy,
    ScheduleConfig,
    ScheduleError,
    SearchSpace,
    StartPolicy,
    TaskWindow,
    Tensor,
    TensorSpec,
    Tile,
    WindowMode,
    Workload,
    auto_schedule,
    item,
    kernel,
    pto,
    register_policy,
    slot_i64,
    workload,
)
from pto_wsp.search import scheduler as search_module
from pto_wsp.search.bench import Bench, difference

TileF32 = Tile[4, 4, DType.F32]


@kernel
def light(x: In[TileF32], y: Out[TileF32]):
    pto.store(y, x * 2.0)


@kernel
def heavy(x: In[TileF32], z: Out[TileF32]):
    pto.store(z, pto.exp(pto.exp(x)) + x)


@kernel
def add(y: In[TileF32], z: InOut[TileF32]):
    pto.store(z, z + y)


@workload
def three(x: Tensor, y: Tensor, z: Tensor):
    for b in P(Dense[4](name="batch")):
        for t in P(6):
            light[b, t](x=x[b, t], y=y[b, t])
            heavy[b, t](x=x[b, t], z=z[b, t])
    for b in P(Dense[4](name="batch")):
        for u in P(6):
            add[b, u](y=y[b, u], z=z[b, u])


def arrays() -> list[np.ndarray[Any, Any]]:
    x = np.random.default_rng(0).standard_normal((4, 6, 4, 4), dtype=np.float32)
    return [x, np.zeros_like(x), np.ones_like(x)]


SPACE = SearchSpace(
    dispatch=(None, "round_robin", "least_loaded", "work_steal", "affinity", "hash", "dispatch_by"),
    keys=("batch", lambda t: t.b * 3),
    lanes=(1, 3, None),
    window=(None, 2, TaskWindow(128, "bytes")),
    ready=(None, "fifo", "work_steal", "longest_processing_time", "priority", ReadyPolicy.priority(lambda t: -t.id)),
    fuse={"t": (None, 1, 4), "u": (None, 2)},
    split={"/b/t": (None, 4)},
    unroll={"u": (None, 3)},
)
SMALL = SearchSpace(dispatch=("round_robin", "affinity", "hash"), keys=("b",), lanes=(2, 4), window=(None, 3))


def outputs(w: Workload, own: list[np.ndarray[Any, Any]]) -> list[bytes]:
    w.compile(threads=2).run()
    return [a.tobytes() for a in own]


# what is tried


def test_every_configuration_that_was_tried_gives_the_same_bits() -> None:
    """Law 1, over a sample of a large space."""
    result = AutoScheduler(SPACE, trials=60, seed=1).explore(three(*arrays()))
    want_arrays = arrays()
    want = outputs(three(*want_arrays), want_arrays)
    ran = [t for t in result.table if t.cost is not None]
    assert len(ran) > 20
    for trial in ran:
        own = arrays()
        assert outputs(trial.config.apply(three(*own)), own) == want, trial.config


def test_a_small_space_is_searched_whole_and_the_least_cost_wins() -> None:
    w = three(*arrays())
    result = AutoScheduler(SMALL).explore(w)
    assert len(result.table) == 1 + SMALL.size == 13
    assert result.table.stopped == "all were tried"
    for trial in result.table:
        program = trial.config.apply(three(*arrays())).compile().run()
        assert trial.cost == program.stats.total_cycles
        assert trial.ratio == trial.cost / result.table[0].cost
    assert result.table.best.cost == min(t.cost for t in result.table)
    assert result.best == result.table.best.config
    assert str(result.workload) == str(result.best.apply(three(*arrays())))


def test_the_arrays_stay_as_they_are() -> None:
    own = arrays()
    before = [a.tobytes() for a in own]
    for cost in ("simulate", "measured"):
        AutoScheduler(SMALL, cost=cost, trials=2).explore(three(*own))
    assert [a.tobytes() for a in own] == before


def test_the_same_seed_gives_the_same_table_and_another_seed_another_one() -> None:
    tables = [AutoScheduler(SPACE, trials=20, seed=s).explore(three(*arrays())).table for s in (5, 5, 6)]
    assert [len(t) for t in tables] == [21, 21, 21]
    assert all(t.stopped == "trials" for t in tables)
    tried = [[t.config for t in table] for table in tables]
    assert tried[0] == tried[1]
    assert tried[0] != tried[2]
    assert str(tables[0]) == str(tables[1])


def test_local_search_comes_near_the_best_of_the_whole_space() -> None:
    space = SearchSpace(
        dispatch=("round_robin", "least_loaded"),
        lanes=tuple(range(1, 13)),
        window=(None, 1, 2, 4, 8),
        ready=(None, "work_steal"),
    )
    w = three(*arrays())
    best = AutoScheduler(space, trials=space.size).explore(w).table.best.cost
    found = AutoScheduler(space, trials=space.size // 5).explore(w).table
    assert len(found) == 1 + space.size // 5
    assert found.best.cost <= 1.1 * best


def test_time_stops_a_search() -> None:
    table = AutoScheduler(SPACE, seconds=0).explore(three(*arrays())).table
    assert (len(table), table.stopped) == (1, "time")


def test_what_is_refused_is_in_the_table_with_its_reason() -> None:
    space = SearchSpace(dispatch=("affinity",), keys=("b", "t"), tile=({"b": 2, "t": 2}, None), fuse={"t": (1,)})
    table = AutoScheduler(space).explore(only_b(*arrays()[:2])).table
    refused = {str(t.config): t.refused for t in table if t.refused}
    assert len(table) == 5
    assert len(refused) == 4
    assert "[PTO409]" in refused["fuse(t=1), affinity(t.b)"]
    assert all(t.cost is None and t.ratio is None for t in table if t.refused)
    text = str(table)
    assert all(f"refused: {config}: {why}" in text for config, why in refused.items())


@pytest.mark.parametrize(
    "fields",
    [
        {"dispatch": ("affinity",), "keys": ("b", "nowhere")},
        {"dispatch": ("round_robin",), "ready": ("priority",), "keys": (lambda t: t.b + t.nowhere,)},
        {"dispatch": (None, DispatchPolicy.hash(lambda t: t.nowhere, 2))},
        {"dispatch": ("affinity",), "keys": ("nowhere",), "split": {"b": (None, 2)}},
    ],
)
def test_keys_that_no_task_has_are_refused_before_anything_is_tried(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "cycles", None)
    with pytest.raises(ScheduleError, match="nowhere") as caught:
        AutoScheduler(SearchSpace(**fields)).explore(only_b(*arrays()[:2]))
    assert caught.value.code == "PTO411"
    assert caught.value.loc is not None
    assert caught.value.loc.file == __file__


def test_keys_may_be_of_loops_that_rewrites_make() -> None:
    space = SearchSpace(
        dispatch=("affinity",),
        keys=("b_o", lambda t: t.b_i + t.t_o, lambda t: t.get("nowhere", 0)),
        split={"b": (None, 2), "t": (None, 3)},
    )
    table = AutoScheduler(space).explore(only_b(*arrays()[:2])).table
    assert sum(not t.refused for t in table) == 1 + 2 + 1 + 4


def test_a_directive_of_the_workload_is_not_said_again() -> None:
    """Directives of a space stand directly around those of the workload, where the same ones are refused."""
    w = only_b(*arrays()[:2]).dispatch(DispatchPolicy.round_robin(2)).window(TaskWindow(3))
    space = SearchSpace(dispatch=("affinity", None), keys=("b",), window=(None, 8), ready=(None, "fifo"))
    for trial in AutoScheduler(space).explore(w).table:
        again = trial.config.dispatch is not None or trial.config.window is not None
        assert ("[PTO418]" in trial.refused) == again
    tried = [t.config for t in auto_schedule(w)[1]]
    assert all(c.dispatch is None for c in tried)
    assert any(c.ready is not None for c in tried)
    table = auto_schedule(only_b(*arrays()[:2]).dispatch(DispatchPolicy.work_steal(2)))[1]
    assert [str(t.config) for t in table] == ["as given"]


@workload
def only_b(x: Tensor, y: Tensor):
    for b in P(4):
        for t in P(6):
            light[b, t](x=x[b, t], y=y[b, t])


def test_deadlocks_and_windows_that_abort_are_refused() -> None:
    w = only_b(*arrays()[:2]).task_graph(start=StartPolicy.after_orchestration)
    space = SearchSpace(window=(None, 4, TaskWindow(4, mode=WindowMode.ABORT), TaskWindow(24)))
    table = AutoScheduler(space).explore(w).table
    codes = [t.refused[:8] for t in table]
    assert codes[:1] + codes[3:] == ["", ""]
    assert codes[1:3] == ["[PTO419]", "[PTO741]"]


def test_what_fails_without_a_schedule_is_raised() -> None:
    spec = only_b(TensorSpec((4, 6, 4, 4), DType.F32), np.zeros((4, 6, 4, 4), np.float32))
    assert len(AutoScheduler(SMALL).explore(spec).table) == 1 + SMALL.size  # simulated: no arrays are needed
    with pytest.raises(BindError):
        AutoScheduler(SMALL, cost="measured").explore(spec)


def test_control_that_reads_what_tasks_compute_is_run() -> None:
    @kernel
    def count(n: Out[Tile[1, 1, DType.I32]]):
        pto.store(n, pto.full((1, 1), 5, DType.I32))

    @workload
    def counted(x: Tensor, y: Tensor, n: Tensor):
        count(n=n)
        for t in P(item(n[0, 0])):
            light[t](x=x[0, t], y=y[0, t])

    x, y, _ = arrays()
    n = np.ones((1, 1), np.int32)
    result = AutoScheduler(SearchSpace(lanes=(1, 5))).explore(counted(x, y, n))
    assert not y.any()
    assert n[0, 0] == 1
    for trial in result.table:
        assert trial.cost == trial.config.apply(counted(x, y, n)).compile().run().stats.total_cycles


def test_values_are_bound_by_a_function() -> None:
    @workload
    def dynamic(x: Tensor, y: Tensor):
        for b in P(DenseDyn("batch")):
            for t in P(6):
                light[b, t](x=x[b, t], y=y[b, t])

    x, y, _ = arrays()
    costs: list[Any] = []

    def bind(n: int) -> Any:
        return lambda program: program.set_axis_sizes({"batch": n})

    for n in (1, 4):
        costs.append(AutoScheduler(SMALL).explore(dynamic(x, y), bind=bind(n)).table[0].cost)
    assert costs[0] < costs[1]
    assert not y.any()


def test_policies_that_were_registered_are_tried_by_name() -> None:
    register_policy("dispatch", "backwards_for_search", lambda t: -t.position % t.lanes)
    register_policy("ready", "latest_for_search", lambda t: t.id)
    space = SearchSpace(dispatch=("backwards_for_search",), ready=("latest_for_search",), lanes=(2,))
    table = AutoScheduler(space).explore(three(*arrays())).table
    assert [str(t.config) for t in table] == ["as given", "backwards_for_search(lanes=2), ready=latest_for_search"]
    assert table[1].cost is not None


def test_measured_costs_are_milliseconds() -> None:
    table = AutoScheduler(SMALL, cost="measured", trials=3, threads=1).explore(three(*arrays())).table
    assert table.unit == "ms"
    assert all(t.cost is not None and t.cost > 0 for t in table)
    assert str(table).splitlines()[0].split() == ["ms", "ratio", "configuration"]


# by default


def test_auto_schedule_has_a_good_space_by_default() -> None:
    own = arrays()
    scheduled, table = auto_schedule(three(*own))
    assert table.best.cost < table[0].cost
    assert scheduled.compile().run().stats.total_cycles == table.best.cost
    tried = {str(t.config) for t in table}
    assert any("affinity(t.b, lanes=4)" in t for t in tried)
    assert any("fuse(/b/t=1)" in t for t in tried)
    assert not any(t.refused for t in table)


def test_a_workload_that_nothing_improves_is_given_back() -> None:
    @workload
    def one(x: Tensor, y: Tensor):
        light(x=x[0, 0], y=y[0, 0])

    w = one(*arrays()[:2])
    scheduled, table = auto_schedule(w)
    assert scheduled == w
    assert table.best.config == ScheduleConfig()


def test_the_arch_decides_the_lanes_of_the_default_space() -> None:
    _, table = auto_schedule(three(*arrays()), trials=5, arch="ascend_a2a3:pipes")
    assert all("lanes=4" in str(t.config) for t in table if "round_robin" in str(t.config))


# constants


@kernel
def rows(x: In[Tensor], y: Out[Tensor], times: Constexpr[int]):
    for _ in range(times):
        x = x * 0.5
    pto.store(y, pto.exp(x) * 2.0**times)


def blocked(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], block: int, times: int = 1) -> Workload:
    @workload
    def by_rows(x: Tensor, y: Tensor):
        for i in P(x.tiles(block)):
            rows[i](x=x[i], y=y[i], times=times)

    return by_rows(x, y)


def test_constants_make_another_program_that_is_compared() -> None:
    x = np.random.default_rng(0).standard_normal((24, 16), dtype=np.float32)
    y = np.zeros_like(x)
    space = SearchSpace(
        constants={"block": (4, 8, 24), "times": (1, 2)},
        make=lambda block, times: blocked(x, y, block, times),
        lanes=(None, 8),
    )
    result = AutoScheduler(space).explore(blocked(x, y, 2))
    same = [t for t in result.table if dict(t.config.pairs("constants")).get("times") == 1]
    other = [t for t in result.table if dict(t.config.pairs("constants")).get("times") == 2]
    assert (len(same), len(other), len(result.table)) == (6, 6, 13)
    assert all(t.error == 0 and t.bound == 2.0**-14 for t in same)  # the same arithmetic in other blocks
    assert all("its results differ by" in t.refused and t.cost is None for t in other)
    assert result.best.constants
    assert "results (bound)" in str(result)
    assert "within 0.0e+00 (6.1e-05)" in str(result.table)
    result.workload.compile().run()
    assert y.any()


def test_the_bound_of_another_program_may_be_said() -> None:
    x = np.full((8, 16), 1e-3, np.float32)
    y = np.zeros_like(x)

    def make(times: int) -> Workload:
        return blocked(x, y, 4, times)

    refused = [
        AutoScheduler(SearchSpace(constants={"times": (2,)}, make=make, within=within))
        .explore(make(1))
        .table[1]
        .refused
        for within in (0.5, 3.0)
    ]
    assert refused[0].startswith("its results differ by 1,")
    assert not refused[1]


def test_another_program_with_other_results_is_refused() -> None:
    x, y, other = (np.zeros((8, 4), np.float32) for _ in range(3))

    def make(wide: int) -> Workload:
        return (
            blocked(np.zeros((16, 4), np.float32), np.zeros((16, 4), np.float32), 4) if wide else blocked(x, other, 4)
        )

    table = AutoScheduler(SearchSpace(constants={"wide": (0, 1)}, make=make)).explore(blocked(x, y, 2)).table
    assert [bool(t.refused) for t in table] == [False, False, True]
    assert "other names, shapes or dtypes" in table[2].refused


def test_difference() -> None:
    one = {"a": np.array([1.0, -2.0], np.float32), "n": np.array([1, 2])}
    assert difference(one, {"a": one["a"]}, None) is None
    for a, n, of_bound in (
        ([1, -2], [1, 2], 0.0),
        ([1, -2], [1, 3], np.inf),
        ([1, -2 - 2.0**-12], [1, 2], 2.0),
        ([1, np.nan], [1, 2], np.inf),
        ([np.inf, -2], [1, 2], np.inf),
    ):
        found = difference(one, {"a": np.array(a, np.float32), "n": np.array(n)}, None)
        assert found is not None
        assert found.of_bound == of_bound
    nan = {"a": np.array([np.nan, np.inf, 1.0])}
    found = difference(nan, {"a": np.array([np.nan, np.inf, 1.5])}, 0.25)
    assert found is not None
    assert (found.error, found.of_bound) == (0.5, 2.0)


# configurations are values


def test_a_configuration_is_a_value() -> None:
    one, two = (
        ScheduleConfig(split={"b": 2}, dispatch=DispatchPolicy.affinity(lambda t: t.b % 2, 4), window=TaskWindow(8))
        for _ in range(2)
    )
    other = ScheduleConfig(split={"b": 2}, dispatch=DispatchPolicy.affinity(lambda t: t.b % 3, 4), window=TaskWindow(8))
    assert (one, hash(one), str(one)) == (two, hash(two), str(two))
    assert one != other
    assert len({one, two, other}) == 2
    assert str(one) == "split(b=2), affinity(mod(t.b, 2), lanes=4), window(8 tasks)"
    assert repr(one) == f"<ScheduleConfig {one}>"
    assert str(ScheduleConfig()) == "as given"
    assert ScheduleConfig() != "as given"


def test_a_configuration_is_applied_as_its_directives_are() -> None:
    w = three(*arrays())
    config = ScheduleConfig(
        fuse={"t": 1},
        split={"u": 4},
        unroll={"t": 2},
        dispatch=DispatchPolicy.work_steal(3),
        window=TaskWindow(8),
    )
    by_hand = w.fuse(loop="t").split(loop="u", size=4).unroll(loop="t", factor=2)
    by_hand = by_hand.dispatch(DispatchPolicy.work_steal(3)).window(TaskWindow(8))
    assert str(config.apply(w)) == str(by_hand)
    assert str(config) == "fuse(t=1), split(u=4), unroll(t=2), work_steal(lanes=3), window(8 tasks)"


def test_fusing_n_iterations_is_one_task_of_n() -> None:
    tasks = [
        ScheduleConfig(fuse={"t": n}).apply(only_b(*arrays()[:2])).compile().run().stats.task_count for n in (2, 3, 6)
    ]
    assert tasks == [12, 8, 4]


# on disk


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def price(self: Bench) -> float:
        raise AssertionError("it ran")

    monkeypatch.setattr(search_module, "COSTS", {"simulate": ("cycles", price), "measured": ("ms", price)})


@pytest.mark.parametrize("cost", ["simulate", "measured"])
def test_a_search_of_what_is_known_only_reads(cost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = AutoScheduler(SPACE, cost=cost, trials=10, cache=tmp_path).explore(three(*arrays())).table
    forbid(monkeypatch)
    again = AutoScheduler(SPACE, cost=cost, trials=10, cache=tmp_path).explore(three(*arrays())).table
    assert str(again) == str(first)
    assert [t.config for t in again] == [t.config for t in first]


@pytest.mark.parametrize(
    "other",
    [
        lambda c: AutoScheduler(SMALL, cache=c, trials=1).explore(only_b(*arrays()[:2])),
        lambda c: AutoScheduler(SMALL, cache=c, trials=1, arch="ascend_a2a3_measured").explore(three(*arrays())),
        lambda c: AutoScheduler(SMALL, cache=c, trials=1, cost="measured").explore(three(*arrays())),
    ],
)
def test_another_workload_arch_or_cost_has_a_file_of_its_own(other: Any, tmp_path: Path) -> None:
    AutoScheduler(SMALL, cache=tmp_path, trials=1).explore(three(*arrays()))
    other(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_other_lengths_have_a_file_of_their_own(tmp_path: Path) -> None:
    @workload
    def read(x: Tensor, y: Tensor, n: Tensor):
        for b in P(4):
            for t in P(item(n[b])):
                light[b, t](x=x[b, t], y=y[b, t])

    @workload
    def ragged(x: Tensor, y: Tensor, lengths: Ragged):
        for b in P(lengths.outer):
            for t in P(lengths[b]):
                light[b, t](x=x[b, t], y=y[b, t])

    def search(f: Any, lengths: Any) -> Any:
        return AutoScheduler(SMALL, cache=tmp_path, trials=1).explore(f(*arrays()[:2], lengths)).table[0].cost

    few, many = [1, 1, 1, 1], [6, 6, 6, 6]
    assert search(read, np.array(few)) < search(read, np.array(many))
    assert search(ragged, Ragged(4, few)) < search(ragged, Ragged(4, many))
    assert len(list(tmp_path.glob("*.json"))) == 4


def test_other_values_that_are_bound_have_a_file_of_their_own(tmp_path: Path) -> None:
    @workload
    def of_slot(x: Tensor, y: Tensor):
        for t in P(slot_i64(0)):
            light[t](x=x[0, t], y=y[0, t])

    def bind(n: int) -> Any:
        return lambda program: program.set_slot(0, n)

    w = of_slot(*arrays()[:2])
    space = SearchSpace(lanes=(2, 4))
    costs = [AutoScheduler(space, cache=tmp_path, trials=1).explore(w, bind=bind(n)).table[0].cost for n in (1, 6)]
    assert costs[0] < costs[1]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_other_constants_of_the_same_name_are_not_taken_from_the_file(tmp_path: Path) -> None:
    x = np.ones((24, 16), np.float32)
    y = np.zeros_like(x)
    costs: list[Any] = []
    for scale in (1, 2):
        space = SearchSpace(constants={"block": (4,)}, make=lambda block, scale=scale: blocked(x, y, block * scale))
        costs.append(AutoScheduler(space, cache=tmp_path).explore(blocked(x, y, 2)).table[1].cost)
    assert costs[0] != costs[1]


def search_into(folder: str, seed: int) -> None:
    AutoScheduler(SPACE, trials=25, seed=seed, cache=folder).explore(three(*arrays()))


def processes(seeds: list[int], folder: Path) -> list[subprocess.Popen[bytes]]:
    """New ones, no forks: JAX, which other tests use, does not bear those."""
    script = "import sys; sys.path.insert(0, sys.argv[1]); from search.test_search import search_into; search_into(sys.argv[2], int(sys.argv[3]))"
    command = (sys.executable, "-P", "-c", script, str(ROOT / "tests"), str(folder))
    return [subprocess.Popen((*command, str(s))) for s in seeds]


def test_a_killed_search_goes_on_to_the_same_table(tmp_path: Path) -> None:
    want = str(AutoScheduler(SPACE, trials=25, seed=2).explore(three(*arrays())).table)
    (victim,) = processes([2], tmp_path)
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline
        and sum(len(json.loads(p.read_text())["trials"]) for p in tmp_path.glob("*.json")) < 6
    ):
        time.sleep(0.005)
    victim.kill()
    victim.wait()
    (file,) = tmp_path.glob("*.json")
    known = len(json.loads(file.read_text())["trials"])
    assert known >= 6
    table = AutoScheduler(SPACE, trials=25, seed=2, cache=tmp_path).explore(three(*arrays())).table
    assert str(table) == want


def test_processes_that_search_at_once_share_one_file(tmp_path: Path) -> None:
    for p in processes([1, 2, 3], tmp_path):
        assert p.wait() == 0
    (file,) = tmp_path.glob("*.json")
    found = set(json.loads(file.read_text())["trials"])
    for seed in (1, 2, 3):
        table = AutoScheduler(SPACE, trials=25, seed=seed, cache=tmp_path).explore(three(*arrays())).table
        assert {t.config.key for t in table if t.cost is not None} <= found


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"cost"', '"gain"', 1),
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: "[]",
        lambda text: "\udcff",
    ],
)
def test_a_damaged_file_is_an_error_and_stays(damage: Any, tmp_path: Path) -> None:
    def search() -> None:
        AutoScheduler(SMALL, cache=tmp_path, trials=1).explore(three(*arrays()))

    search()
    (file,) = tmp_path.glob("*.json")
    damaged = damage(file.read_text()).encode(errors="surrogateescape")
    file.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="PTO432"):
        search()
    assert file.read_bytes() == damaged
    file.unlink()
    search()


def test_bad_options_are_refused(tmp_path: Path) -> None:
    for options in (
        {"cost": "guess"},
        {"trials": 0},
        {"trials": 1.5},
        {"seed": "x"},
        {"seconds": -1},
        {"seconds": "long"},
        {"cache": 7},
    ):
        with pytest.raises(ScheduleError, match="PTO431"):
            AutoScheduler(SMALL, **options)  # type: ignore[arg-type]
    wrong: Any = "space"
    with pytest.raises(ScheduleError, match="PTO431"):
        AutoScheduler(wrong)
    with pytest.raises(ScheduleError, match="PTO431"):
        AutoScheduler(SMALL).explore(three(*arrays()), bind=wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dispatch": ()},
        {"dispatch": "round_robin"},
        {"dispatch": ("",)},
        {"dispatch": ("affinity",)},
        {"ready": ("priority",)},
        {"dispatch": ("round_robin",), "keys": ("b",)},
        {"dispatch": ("hash",), "keys": (3,)},
        {"dispatch": (None,), "lanes": (2,)},
        {"window": 4},
        {"split": ("b", 4)},
        {"split": {"b": 4}},
        {"constants": {"n": (1, 2)}},
        {"make": three, "window": (2,)},
        {"constants": {"n": ([1],)}, "make": three},
        {"window": (2,), "within": 0.1},
        {"tile": (3,)},
    ],
)
def test_bad_spaces_are_refused(fields: Any) -> None:
    with pytest.raises(ScheduleError, match="PTO430"):
        SearchSpace(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"split": {"b": (0,)}},
        {"window": (0,)},
        {"lanes": (0,)},
        {"dispatch": (3,)},
        {"window": ("x",)},
        {"unroll": {"t": (1.5,)}},
    ],
)
def test_choices_that_directives_refuse_are_refused_when_the_space_is_made(fields: Any) -> None:
    with pytest.raises(ScheduleError, match="PTO403"):
        SearchSpace(**fields)


def test_programs_are_bound_to_copies() -> None:
    own = arrays()
    seen: list[Program] = []
    AutoScheduler(SMALL, trials=1, cost="measured").explore(three(*own), bind=seen.append)
    assert len(seen) == 2
    assert all(p.tensors["x"] is own[0] or np.shares_memory(p.tensors["x"], own[0]) for p in seen)
    assert not any(np.shares_memory(p.tensors["z"], own[2]) for p in seen)
