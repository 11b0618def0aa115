"""The decoder's scheduler, and that its steps are what the example says: in place, compiled once, and nothing of empty rows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.test_examples import SMALL, example
from pto_wsp import DType

decoder = example("decoder")

import decoder_model as models  # noqa: E402 (beside the example)
import decoder_serving as serving  # noqa: E402

SIZES: dict[str, Any] = next(sizes for name, sizes in reversed(SMALL) if name == "decoder")
TOKENS = re.compile(r"(\d+) of (\d+) tokens as jax, padded; (\d+) that no rounding decides")


def requests(*prompts: int, new: int = 3) -> list[Any]:
    return [serving.Request(tuple(range(n)), new, 0) for n in prompts]


def counted(rows: Any) -> Any:
    """In the place of a step: the next token of a sequence is its length."""
    token = np.array([rows.position[r] + 1 for r in rows.last], np.int32)
    return models.Outcome(token, np.zeros((len(token), 1), np.float32), ())


def served(scheduler: Any, of: list[Any]) -> list[Any]:
    return serving.serve(counted, scheduler, of)


def small_model(dtype: DType = DType.F32) -> Any:
    sizes = models.Sizes(layers=2, hidden=16, heads=2, ffn=8, vocabulary=30, experts=0, page=4, dtype=dtype)
    return decoder.Model.random(sizes, 64, None)


@pytest.mark.parametrize("moe", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_tokens_are_those_of_jax_padded(moe: bool, bf16: bool) -> None:
    for result in decoder.run(**SIZES, moe=moe, bf16=bf16):
        assert not result.failures
        equal, tokens, decided = map(int, next(m for note in result.notes if (m := TOKENS.match(note))).groups())
        assert equal >= decided
        assert tokens == len(SIZES["prompts"]) * SIZES["new"] or "step" in result.name
        assert decided > 0.75 * tokens if bf16 else equal == decided == tokens


def test_requests_enter_and_leave() -> None:
    scheduler = serving.Scheduler(serving.Limits(slots=2, rows=4, pages=20), page=4, blocks=5)
    of = requests(9, 1, 5, 2)
    steps = served(scheduler, of)
    assert [r.tokens for r in of] == [list(range(n + 3)) for n in (9, 1, 5, 2)]
    assert scheduler.free_pages == 20
    assert scheduler.statistics.together == 2
    assert (scheduler.statistics.waits, scheduler.statistics.restarts) == (0, 0)
    for rows in steps:  # of a sequence, one position after another, each in a page of its own
        live = rows.position >= 0
        places = set(zip(rows.table[rows.slot, rows.position // 4][live], rows.position[live] % 4, strict=True))
        assert len(places) == live.sum()


def test_a_chunk_of_a_prompt_runs_beside_tokens_of_others() -> None:
    scheduler = serving.Scheduler(serving.Limits(slots=2, rows=4, pages=20), page=4, blocks=5)
    first, second, third, *_ = served(scheduler, requests(2, 9))
    assert [list(x.position) for x in (first, second, third)] == [[0, 1, 0, 1], [2, 2, 3, 4], [3, 5, 6, 7]]


def test_who_lacks_a_page_waits() -> None:
    scheduler = serving.Scheduler(serving.Limits(slots=2, rows=4, pages=6), page=2, blocks=5)
    of = requests(6, 1, new=4)
    served(scheduler, of)
    assert [r.tokens for r in of] == [list(range(10)), list(range(5))]
    assert (scheduler.statistics.waits, scheduler.statistics.restarts) == (1, 0)
    assert scheduler.free_pages == 6


def test_where_all_wait_the_youngest_begins_again() -> None:
    scheduler = serving.Scheduler(serving.Limits(slots=2, rows=4, pages=4), page=2, blocks=4)
    of = requests(2, 2, new=6)
    served(scheduler, of)
    assert [r.tokens for r in of] == [list(range(8))] * 2
    assert scheduler.statistics.restarts > 0
    assert scheduler.free_pages == 4


def test_what_never_fits_is_refused() -> None:
    scheduler = serving.Scheduler(serving.Limits(slots=1, rows=1, pages=2), page=4, blocks=9)
    scheduler.submit(requests(6)[0])
    with pytest.raises(ValueError, match="a request of 9 positions, but the cache has 8"):
        scheduler.submit(requests(7)[0])
    with pytest.raises(ValueError, match="1 rows are less than one for each of 2 slots"):
        serving.Scheduler(serving.Limits(slots=2, rows=1, pages=2), page=4, blocks=9)


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16])
def test_the_cache_stays_where_it_is_and_empty_rows_leave_it_alone(dtype: DType) -> None:
    model = small_model(dtype)
    step = decoder.Paged(model, model.cache(np.nan, (3, 2, 8, 4), (3, 2, 4, 8)))
    table = np.array([[2, 0]], np.int32)
    zeros = np.zeros(2, np.int32)
    for position in ([-1, -1], [0, 1], [2, -1], [3, 4]):
        step(models.Rows(zeros, np.array(position, np.int32), zeros, table, zeros[:1]))
    assert step.failures == []
    for keys, values in step.cache:
        written = np.isfinite(np.asarray(values, np.float32)).all(axis=(1, 3))
        np.testing.assert_array_equal(written, [[True, False, False, False], [False] * 4, [True] * 4])
        np.testing.assert_array_equal(written, np.isfinite(np.asarray(keys, np.float32)).all(axis=(1, 2)))


def test_another_shape_is_another_program_and_a_copy_another_place() -> None:
    model = small_model()
    step = decoder.Paged(model, model.cache(0, (3, 2, 8, 4), (3, 2, 4, 8)))
    for n in (5, 6):
        zeros = np.zeros(n, np.int32)
        step(models.Rows(zeros, zeros - 1, zeros, np.zeros((1, 2), np.int32), zeros[:1]))
    assert step.failures == ["2 programs were compiled for one step"]
    step.cache = decoder.jax.tree.map(lambda x: x + 1, step.cache)
    assert step.failures[0] == "the cache was copied"


def test_lengths_spread_over_as_many_positions() -> None:
    lengths = (512, 2048, 8192, 32768)
    assert decoder.spread(lengths, 0) == [10880] * 4
    assert decoder.spread(lengths, 1) == list(lengths)
    assert sum(decoder.spread(lengths, 0.5)) == sum(lengths)


def test_the_spread_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(decoder, "ROUNDS", 1)
    _, step = decoder.run(**SIZES | {"lengths": (1, 9)}, svg=True)
    assert [p.name for p in tmp_path.iterdir()] == ["decoder_spread.svg"]
    assert len(step.notes) == 2 + 1 + len(decoder.SPREADS)
