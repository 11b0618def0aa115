"""The Omega test against counting: small systems in small boxes."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pto_wsp.ir import affine
from pto_wsp.ir.affine import Linear, has_solution

NAMES = ("x", "y", "z")
SIZE = 5
rows = st.tuples(st.tuples(*(st.integers(-6, 6) for _ in NAMES)), st.integers(-15, 15))


def linear(row: tuple[tuple[int, ...], int]) -> Linear:
    return Linear.of(dict(zip(NAMES, row[0], strict=True)), row[1])


def box() -> list[Linear]:
    return [Linear.of({n: 1}, 0) for n in NAMES] + [Linear.of({n: -1}, SIZE - 1) for n in NAMES]


def counted(equal: list[Linear], at_least: list[Linear]) -> bool:
    for point in product(range(SIZE), repeat=len(NAMES)):
        env = dict(zip(NAMES, point, strict=True))
        values = [sum(c * env[v] for v, c in e.coefs) + e.const for e in (*equal, *at_least)]
        if not any(values[: len(equal)]) and all(v >= 0 for v in values[len(equal) :]):
            return True
    return False


@given(st.lists(rows, max_size=3), st.lists(rows, max_size=5))
def test_it_finds_what_counting_finds(equal: list, at_least: list) -> None:
    e, a = [linear(r) for r in equal], [linear(r) for r in at_least] + box()
    assert has_solution(e, a) == counted(e, a)


@given(st.lists(rows, max_size=2), st.lists(rows, max_size=4))
def test_without_a_box_it_misses_no_solution(equal: list, at_least: list) -> None:
    e, a = [linear(r) for r in equal], [linear(r) for r in at_least]
    if counted(e, a + box()):
        assert has_solution(e, a) is True


@pytest.mark.parametrize(
    ("equal", "at_least", "want"),
    [
        ([], [], True),
        ([Linear.of({}, 1)], [], False),
        ([Linear.of({}, 0)], [], True),
        ([], [Linear.of({}, -1)], False),
        ([Linear.of({"x": 2, "y": 4}, 1)], [], False),  # an even number is never odd
        ([Linear.of({"x": 7, "y": 12}, -31)], [], True),
        # 27 <= 11x + 13y <= 45, -10 <= 7x - 9y <= 4: the rational solutions hold no integer (Pugh's example)
        (
            [],
            [
                Linear.of({"x": 11, "y": 13}, -27),
                Linear.of({"x": -11, "y": -13}, 45),
                Linear.of({"x": 7, "y": -9}, 10),
                Linear.of({"x": -7, "y": 9}, 4),
            ],
            False,
        ),
        ([], [Linear.of({"x": 2}, -1), Linear.of({"x": -2}, 1)], False),
        ([], [Linear.of({"x": 10**30}, -1), Linear.of({"x": -1}, 10**30)], True),
    ],
)
def test_known_systems(equal: list[Linear], at_least: list[Linear], want: bool) -> None:
    assert has_solution(equal, at_least) is want


def test_it_gives_up_rather_than_search_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"v{i}" for i in range(24)]
    dense = [
        Linear.of({n: (i * j * 7919) % 97 - 48 for j, n in enumerate(names, 2)}, (-1) ** i * 5) for i in range(1, 60)
    ]
    monkeypatch.setattr(affine, "_BUDGET", 100)
    assert has_solution([], dense) is None
