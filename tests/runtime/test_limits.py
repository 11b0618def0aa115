"""The loops that measure what the machine can do."""

import numpy as np
import pytest

from pto_wsp.runtime.core import core


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 1000, 100_003])
def test_copying_copies_every_byte_once(size, threads):
    data = np.random.default_rng(0).integers(0, 256, size + 1, np.uint8)
    out = np.full(size + 1, 7, np.uint8)
    core().run_copy(out.ctypes.data, data.ctypes.data, size, threads)
    assert np.array_equal(out[:size], data[:size]) and out[size] == 7
    core().run_read(data.ctypes.data, size, threads)


def test_no_threads_are_refused():
    with pytest.raises(ValueError, match="no threads"):
        core().run_fma(1, 0)
