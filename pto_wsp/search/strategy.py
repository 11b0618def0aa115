"""In which order configurations are tried."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from pto_wsp.search.space import SearchSpace

Evaluate = Callable[[int], float]
"""From the rank of a configuration to its cost; infinite where it was refused. Raises Enough when the search is over."""


class Enough(Exception):
    """No more configurations may be tried."""


def exhaustive(space: SearchSpace, evaluate: Evaluate) -> None:
    """All of them, in order."""
    for rank in range(space.size):
        evaluate(rank)


def local_search(space: SearchSpace, evaluate: Evaluate, trials: int, seed: int) -> None:
    """A quarter of the trials at random; then from the best of them to the first neighbour that is better, until none is; and so on
    from other random ones. The same seed and costs give the same order."""
    walk = _Walk(space, evaluate, random.Random(seed))
    best = min(((walk.cost(rank), rank) for rank in walk.fresh(max(1, trials // 4))), default=None)
    while best is not None:
        best = walk.better_neighbour(*best)
        if best is None:
            best = next(((walk.cost(rank), rank) for rank in walk.fresh(1)), None)


class _Walk:
    def __init__(self, space: SearchSpace, evaluate: Evaluate, draw: random.Random) -> None:
        self._space, self._evaluate, self._draw = space, evaluate, draw
        self._costs: dict[int, float] = {}

    def cost(self, rank: int) -> float:
        if rank not in self._costs:
            self._costs[rank] = self._evaluate(rank)
        return self._costs[rank]

    def fresh(self, count: int) -> Iterator[int]:
        """Random ones that were not tried, as many as there still are."""
        for _ in range(count):
            if len(self._costs) == self._space.size:
                return
            rank = self._draw.randrange(self._space.size)
            while rank in self._costs:
                rank = (rank + 1) % self._space.size
            yield rank

    def better_neighbour(self, cost: float, rank: int) -> tuple[float, int] | None:
        near = [n for n in self._space.neighbours(rank) if n not in self._costs]
        self._draw.shuffle(near)
        return next(((self.cost(n), n) for n in near if self.cost(n) < cost), None)
