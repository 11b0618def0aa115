"""Operands that are divided between devices: each runs its share, or it is an error; nothing is gathered in silence."""

from interop.processes import WORKLOAD, python

DEVICES = (
    WORKLOAD
    + """
line = Mesh(np.array(jax.devices()), ("i",))
square = Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
xs = np.stack([x, x + 1, x + 2, x * 3])

def put(x, spec, mesh=line):
    return jax.device_put(x, NamedSharding(mesh, spec))

def divided(fn, want, *args, spec=PS("i"), **jit):
    compiled = jax.jit(fn, **jit).lower(*args).compile()
    text = compiled.as_text()
    assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")), text
    got = compiled(*args)
    np.testing.assert_array_equal(got, want)
    assert got.sharding.spec == spec, (got.sharding, spec)
    print("ok")
"""
)


def test_each_device_runs_its_share() -> None:
    out = python(
        DEVICES
        + """
divided(f, 2 * x, put(x, PS("i")))
divided(lambda x: f(x + 1) * 2, 4 * x + 4, put(x, PS("i")))
divided(plus, 2 * x, put(x, PS("i")), put(x, PS("i")))
divided(plus, 2 * x, put(x, PS("i")), put(x, PS("i")), donate_argnums=1)
divided(f, 2 * x, x, out_shardings=NamedSharding(line, PS("i")))
divided(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0], 8 * x, put(x, PS("i")))
divided(jax.vmap(f), 2 * xs, put(xs, PS("i")))
divided(jax.vmap(f, in_axes=1), 2 * xs, put(np.moveaxis(xs, 0, 1), PS(None, "i")))
divided(jax.vmap(f), 2 * xs, put(xs, PS("a", "b"), square), spec=PS("a", "b"))
divided(jax.vmap(f), 2 * xs, put(xs, PS(("a", "b")), square), spec=PS(("a", "b")))
divided(f, 2 * x, put(x, PS()), spec=PS())
np.testing.assert_array_equal(f(put(x, PS("i"))), 2 * x)  # eager
whole = jax.jit(lambda x: f(lax.with_sharding_constraint(x, NamedSharding(line, PS()))))
np.testing.assert_array_equal(whole(put(x, PS(None, None, "i"))), 2 * x)  # who wants it gathered says so
"""
    )
    assert out.split() == ["ok"] * 11


def test_lengths_constants_and_new_memory_are_divided_too() -> None:
    out = python(
        DEVICES
        + """
lengths = np.array([0, 3, 1, 2, 3, 0, 1, 1], np.int32)
weights = Tensor(np.arange(64, dtype=np.float32).reshape(8, 8), name="weights")

@workload
def sums(x, lengths, out):
    n = Ragged(Dense[8](name="batch"), lengths, name="n")
    for b in P(8):
        for k in P.seq(n[b]):
            added[b, k](x=x[b, k:k + 1], to=out[b:b + 1])

@workload
def with_constants(x, out):
    n = Ragged(Dense[8](name="batch"), lengths.tolist(), name="n")
    for b in P(8):
        added[b](x=weights[b:b + 1], to=out[b:b + 1])
        for k in P.seq(n[b]):
            added[b, k](x=x[b, k:k + 1], to=out[b:b + 1])

want = np.stack([x[b, :n].sum(0) for b, n in enumerate(lengths)])
memory = jax.ShapeDtypeStruct((8, 8), np.float32)
g = lambda x, n: as_jax(sums)(x, n, memory)
divided(g, want, put(x, PS("i")), put(lengths, PS("i")))
divided(g, want, put(x, PS("i")), lengths)
h = lambda x: as_jax(with_constants)(x, memory)
np.testing.assert_array_equal(h(x), want + weights.data)
divided(h, want + weights.data, put(x, PS("i")))
sums_of = lambda x: np.stack([x[b, :n].sum(0) for b, n in enumerate(lengths)])
want = np.stack([sums_of(x) for x in xs]) + weights.data
divided(jax.vmap(h), want, put(xs, PS("a", "b"), square), spec=PS("a", "b"))
"""
    )
    assert out.split() == ["ok"] * 4


def test_what_would_have_to_be_gathered_is_an_error() -> None:
    out = python(
        DEVICES
        + """
@workload
def backwards(x):
    out = empty_like(x)
    for i in P(8):
        doubled[i](x=x[7 - i], out=out[i])
    return out

@workload
def blocks(x):
    out = empty_like(x)
    for i in P(2):
        doubled[i](x=x[4 * i : 4 * i + 4], out=out[4 * i : 4 * i + 4])
    return out

def refused(fn, *args):
    try:
        jax.block_until_ready(fn(*args))
    except Exception as e:
        print(next(line for line in str(e).splitlines() if "PTO884" in line))

refused(jax.jit(f), put(x, PS(None, None, "i")))
refused(f, put(x, PS(None, None, "i")))
refused(jax.jit(as_jax(backwards)), put(x, PS("i")))
rows = x.reshape(8, 24)
divided(as_jax(blocks), 2 * rows, put(rows, PS("a"), square), spec=PS("a"))
refused(jax.jit(as_jax(blocks)), put(rows, PS("i")))
some = jax.shard_map(f, mesh=square, in_specs=PS("a"), out_specs=PS("a"), axis_names={"a"})
refused(jax.jit(some), put(x, PS("a"), square))
divided(f, 2 * x, put(x, PS("i")))  # the process goes on
"""
    )
    lines = out.splitlines()
    assert lines[3] == lines[6] == "ok"
    for line, says in zip(
        (*lines[:3], *lines[4:6]),
        (
            "dimension 2",
            "dimension 0 of x",
            "operand x",
            "in blocks of 4 is divided in 4 parts",
            "some axes of its mesh",
        ),
        strict=True,
    ):
        assert says in line


def test_explicit_axes_are_in_the_types() -> None:
    out = python(
        DEVICES
        + """
mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
with (getattr(jax, "set_mesh", None) or jax.sharding.use_mesh)(mesh):
    y = jax.jit(f)(put(x, PS("i"), mesh))
    np.testing.assert_array_equal(y, 2 * x)
    print(jax.typeof(y))
    try:
        jax.jit(f)(put(x, PS(None, None, "i"), mesh))
    except pto_wsp_jax.call.UnsupportedError as e:
        print(e.code)
mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
with (getattr(jax, "set_mesh", None) or jax.sharding.use_mesh)(mesh):
    for spec in ("a", "b"):
        try:
            print(jax.typeof(jax.jit(plus)(put(x, PS("a"), mesh), put(x, PS(spec), mesh))))
        except pto_wsp_jax.call.UnsupportedError as e:
            print("where others are divided over a" in str(e))
"""
    )
    assert out.split() == ["float32[8@i,3,8]", "PTO884", "float32[8@a,3,8]", "True"]
