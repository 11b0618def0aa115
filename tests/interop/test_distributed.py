"""The example of many processes: their bits are those of one, however work is divided, and no failure leaves a process behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from interop.processes import python
from project import ROOT

FOLDER = ROOT / "examples" / "distributed_moe"
sys.path.insert(0, str(FOLDER))

import distributed_moe_example as example  # noqa: E402 (beside the project)
import distributed_moe_model as model  # noqa: E402
import distributed_moe_process as process  # noqa: E402

SMALL = ("--tokens=24", "--hidden=16", "--ffn=12", "--experts=4", "--capacity=4")
SLEEP = (sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)")


def test_two_processes_of_two_devices_give_the_bits_of_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "distributed_moe_example.py", *SMALL, "--runs=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, tokens, _, one, many, padded, same = done.stdout.splitlines()
    assert sum(map(int, tokens.split()[:-1])) == 2 * 24
    assert "0" in tokens.split()  # an expert that nobody chose
    assert one.startswith("1 process, 1 device")
    assert many.startswith("2 processes, 4 devices")
    assert int(many.split()[-2]) > 1  # rounds: more rows than the capacity
    assert padded.startswith("1 process, jax alone")
    assert same == "2 processes give the same bits as one"
    assert list(tmp_path.iterdir()) == []


def test_no_division_changes_a_bit() -> None:
    out = python(
        f"""
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
sys.path.insert(0, {str(FOLDER)!r})
from distributed_moe_model import *

def outcome(sizes, n):
    mesh = Mesh(np.array(jax.devices()[:n]), (AXIS,))
    return jax.tree.map(np.asarray, mixture(mesh, sizes, 2)(*placed(mesh, sizes)))

for top, divisions in ((3, ((2, 1), (4, 5))), (4, ((4, 0),))):
    alone = outcome(Sizes(20, 9, 70, 4, top), 1)
    print(of_bound(Sizes(20, 9, 70, 4, top), slice(None), alone.out, alone.choice) <= 1)
    for n, capacity in divisions:
        sizes = Sizes(20, 9, 70, 4, top, capacity)
        out, choice, rounds = outcome(sizes, n)
        same = out.tobytes() == alone.out.tobytes() and choice.tobytes() == alone.choice.tobytes()
        pairs = np.zeros((n, n), int)  # rows of each device for each
        np.add.at(pairs, (np.arange(20)[None] * n // 20, choice * n // 4), 1)
        print(same, (rounds == -(-pairs.max() // sizes.rows(n))).all())
"""
    )
    assert out.split() == ["True"] * 8


def test_a_wrong_number_is_found() -> None:
    sizes, tokens = model.Sizes(20, 9, 30, 4, 2), slice(5, 15)
    mesh = model.Mesh(np.array(model.jax.devices()[:1]), (model.AXIS,))
    given = model.placed(mesh, sizes)
    outcome = model.mixture(mesh, sizes, 1)(*given)
    out, choice = np.asarray(outcome.out)[tokens].copy(), np.asarray(outcome.choice)[:, tokens].copy()
    assert model.of_bound(sizes, tokens, out, choice) <= 1
    assert model.of_bound(sizes, slice(4, 14), out, choice) > 1
    rows = int(np.bincount(np.asarray(outcome.choice).reshape(-1)).max())
    by_jax, chosen = map(np.asarray, model.padded(sizes, rows)(*given))
    assert model.of_bound(sizes, tokens, by_jax[tokens], chosen[:, tokens]) <= 1
    answer = example.Answer(out, choice, 1.0, 1, 0.5, 1.0, 0.5)
    assert example.compared(answer, answer) == []
    out[3, 4] *= 1.01
    assert model.of_bound(sizes, tokens, out, choice) > 1
    changed = example.Answer(out.copy(), 1 - choice, 1.0, 1, np.nan, 1.0, 0.5)
    out[3, 4] /= 2
    assert example.compared(answer, changed) == [
        "many processes: the error is nan of its bound",
        "tokens went to other experts than in one process",
        "1 tokens have other bits than in one process",
    ]
    choice[:] = 3  # the expert with the lowest bias
    assert model.of_bound(sizes, tokens, out, choice) == np.inf


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"tokens": 21}, "21 tokens are not divisible between 2 devices"),
        ({"experts": 5}, "5 experts are not divisible between 2 devices"),
        ({"top": 17}, "top is 17, but there are 16 experts"),
        ({"ffn": 0}, "ffn is 0"),
    ],
)
def test_sizes_that_cannot_be_divided_are_refused(sizes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        model.Sizes(**sizes).check(2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--coordinator=here", "--processes=2"), "'here' is not HOST:PORT"),
        (("--coordinator=here:x", "--processes=2"), "'here:x' is not HOST:PORT"),
        (("--coordinator=here:1", "--processes=2", "--process=2"), "--process 2 of 2: they are counted from 0"),
        (("--processes=2",), "belong together"),
    ],
)
def test_wrong_options_are_told(options: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        process.main(options)
    assert e.value.code == 2
    assert says in capsys.readouterr().err


def test_the_capacity_is_at_most_what_can_be_sent() -> None:
    assert model.Sizes(tokens=64, experts=16, top=2, capacity=0).rows(4) == 16
    assert model.Sizes(tokens=64, experts=16, top=2, capacity=100).rows(4) == 32
    assert model.Sizes(tokens=64, experts=4, top=2, capacity=100).rows(4) == 16  # one expert each
    assert model.Sizes(tokens=64, experts=16, top=2, capacity=7).rows(4) == 7


ON_A_MESH = """
import faulthandler, sys
faulthandler.dump_traceback_later(200, exit=True)
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
at, me = sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(at, num_processes=2, process_id=me, coordinator_bind_address=None if me else at)
from meshes import draw
from pto_wsp_jax import as_jax, lower_to_jax

for seed in range(int(sys.argv[4])):
    drawn = draw(seed, (2, 2) if seed % 2 else (4,))
    wir = drawn.workload.wir
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(tuple(wir.mesh.shape.values())), tuple(wir.mesh.shape))
    used = {v.name for v in wir.tensors}
    for make in (as_jax, lower_to_jax):
        got = jax.jit(make(drawn.workload, mesh=mesh))(**{n: a for n, a in drawn.arrays.items() if n in used})
        for a, want in zip(got if isinstance(got, tuple) else (got,), drawn.results, strict=True):
            for part in a.addressable_shards:
                np.testing.assert_array_equal(part.data, want[part.index])
jax.distributed.shutdown()
"""


def test_layouts_lie_over_processes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Random workloads with layouts on a mesh of two processes of two devices compute what numpy does."""
    n = 40 if request.config.getoption("--full") else 3
    with example.reserved_port() as port:
        command = (sys.executable, "-P", "-c", ON_A_MESH, str(ROOT / "tests"), f"127.0.0.1:{port}")
        example.together([(*command, str(k), str(n)) for k in range(2)], tmp_path, 240)


def test_when_a_process_fails_the_others_are_stopped(tmp_path: Path) -> None:
    wrong = (sys.executable, "-c", "import sys; print('what happened'); sys.exit(3)")
    start = time.monotonic()
    with pytest.raises(
        example.ProcessError, match=r"process 1 of 2 ended with 3; the others were stopped\n  what happened"
    ):
        example.together([SLEEP, wrong], tmp_path, 60)
    with pytest.raises(example.ProcessError, match=r"process 0 of 2 did not end in 1 seconds; .*\n  here"):
        example.together([SLEEP, SLEEP], tmp_path, 1)
    with pytest.raises(FileNotFoundError):
        example.together([SLEEP, ("/nowhere",)], tmp_path, 60)
    assert time.monotonic() - start < 30


def test_a_process_ends_itself_when_its_time_is_over() -> None:
    command = (sys.executable, FOLDER / "distributed_moe_process.py", *SMALL, "--seconds=1", "--runs=100000000")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Timeout (0:00:01)!" in done.stderr


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "victim" in metafunc.fixturenames:
        running = [(victim, delay) for delay in (2.0, 10.0) for victim in "01"]
        full = metafunc.config.getoption("--full")
        metafunc.parametrize(("victim", "delay"), [("1", 0.0), *(running if full else [])])


def processes_of_the_layer() -> dict[str, int]:
    """Those that this process has started, by their numbers."""
    found: dict[str, int] = {}
    for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
        words = Path("/proc", pid, "cmdline").read_text().split("\0")
        if "--process" in words:
            found[words[words.index("--process") + 1]] = int(pid)
    return found


def test_a_killed_process_ends_the_command(
    victim: str, delay: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer, started, killed = example.layer, dict[str, int](), list[float]()
    monkeypatch.setattr(example, "layer", lambda arguments, *_: layer(arguments, 2, 2, 1))  # no single process before

    def kill() -> None:
        while len(started) < 2:
            time.sleep(0.01)
            started.update(processes_of_the_layer())
        time.sleep(delay)  # from before they find each other until they compute
        killed.append(time.monotonic())
        os.kill(started[victim], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert example.main([*SMALL, "--runs=100000000", "--seconds=100"]) == 1
    killer.join()
    assert time.monotonic() - killed[0] < 30
    said = capsys.readouterr().err
    assert said.startswith("FAILED process ")
    assert "the others were stopped" in said.splitlines()[0]
    assert not any(Path("/proc", str(pid)).exists() for pid in started.values())
