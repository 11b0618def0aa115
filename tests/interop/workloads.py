"""Small kernels and workloads that tests of JAX's part share."""

import numpy as np

from pto_wsp import Dense, DType, In, InOut, Out, P, Scalar, Tensor, empty_like, kernel, pto, workload

rows = Dense[5](name="rows")
X = np.arange(5 * 3 * 8, dtype=np.float32).reshape(5, 3, 8)


@kernel
def doubled(x: In[Tensor], out: Out[Tensor]):
    pto.store(out, x + x)


@kernel
def halved(x: InOut[Tensor]):
    pto.store(x, x * 0.5)


@kernel
def added(x: In[Tensor], scale: Scalar[DType.F32], to: InOut[Tensor]):
    pto.store(to, to + x * scale)


@workload
def double(x):
    out = empty_like(x)
    for i in P(rows):
        doubled[i](x=x[i], out=out[i])
    return out


@workload
def both(x, total):
    out = empty_like(x)
    for i in P(rows):
        added[i](x=x[i], scale=1.0, to=total[i])
    for i in P(rows):
        doubled[i](x=total[i], out=out[i])
    return out
