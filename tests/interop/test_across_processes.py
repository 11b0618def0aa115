"""Calls in programs that another process compiled or exported, on several devices, and with what is damaged."""

from pathlib import Path

from interop.processes import WORKLOAD, python


def test_shard_map() -> None:
    out = python(
        WORKLOAD
        + """
mesh = Mesh(np.array(jax.devices()), ("i",))
def sharded(f, ins=PS("i"), outs=PS("i")):
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=ins, out_specs=outs))
np.testing.assert_array_equal(sharded(f)(x), 2 * x)
np.testing.assert_array_equal(sharded(lambda x: lax.psum(f(x), "i"), outs=PS())(x), 2 * x.reshape(4, 2, 3, 8).sum(0))
np.testing.assert_array_equal(sharded(lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0])(x), 8 * x)
np.testing.assert_array_equal(sharded(lambda x: lax.cond(x.sum() > 0, f, lambda x: x, x))(x), 2 * x)
np.testing.assert_array_equal(sharded(jax.vmap(f), PS(None, "i"), PS(None, "i"))(np.stack([x, x])), 2 * np.stack([x, x]))
ones = np.ones((2, 3, 8), np.float32)
np.testing.assert_array_equal(sharded(plus, (PS("i"), PS()))(x, ones), x + 1)
np.testing.assert_array_equal(sharded(lambda x, y: plus(y, x), (PS("i"), PS()))(x, ones), x + 1)
print(len(jax.devices()))
"""
    )
    assert out.split() == ["4"]


def test_an_exported_function_runs_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "exported"
    python(
        WORKLOAD
        + """
import sys, jax.export
checks = [jax.export.DisabledSafetyCheck.custom_call(pto_wsp_jax.TARGET)]
exported = jax.export.export(jax.jit(lambda x: f(x) + 1), disabled_checks=checks)(jax.ShapeDtypeStruct(x.shape, x.dtype))
open(sys.argv[1], "wb").write(exported.serialize())
""",
        file,
    )
    out = python(
        """
import sys, jax, jax.export, numpy as np, pto_wsp_jax
pto_wsp_jax.register()
x = np.arange(8 * 3 * 8, dtype=np.float32).reshape(8, 3, 8)
g = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
print(bool((g(x) == 2 * x + 1).all()))
""",
        file,
    )
    assert out.strip() == "True"


def test_the_persistent_cache_serves_another_process(tmp_path: Path) -> None:
    script = (
        WORKLOAD
        + """
import sys, logging
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
from jax._src import monitoring
monitoring.register_event_listener(lambda name, **_: hits.append(name))
np.testing.assert_array_equal(jax.jit(lambda x: f(x) + 3)(x), 2 * x + 3)
print(sum(n.endswith("cache_hits") for n in hits) > 0)
"""
    )
    assert python(script, tmp_path).strip() == "False"
    assert python(script, tmp_path).strip() == "True"


def test_compiling_ahead_of_time() -> None:
    out = python(
        WORKLOAD
        + """
compiled = jax.jit(lambda x: f(x)).lower(jax.ShapeDtypeStruct(x.shape, x.dtype)).compile()
print(bool((compiled(x) == 2 * x).all()), "pto_call" in str(jax.make_jaxpr(f)(x)))
"""
    )
    assert out.split() == ["True", "True"]


DAMAGES = (
    ('{"artifact": carried["artifact"][:-9] + b"123456789"}', "damaged"),
    ('{"artifact": b""}', "PTO601"),
    ('{"key": "0" * 64}', "damaged"),
    ('{"numbers": np.array([99, 7, 7], np.int64)}', "another version"),
    ('{"numbers": np.array([], np.int64)}', "damaged"),
    ('{"numbers": np.array([1, 0, 2, 0, 1, 0, 0, 0, 0], np.int64)}', "threads"),
    ('{"numbers": np.array([1, 1, 1, 0, 0, 0, 0, 0], np.int64)}', "other tensors"),
    ('{"numbers": np.array([1, 1, 2, 0, 7, 0, 0, 0, 0], np.int64)}', "no buffer for tensor"),
    ('{"numbers": np.array([1, 1, 2, 0, 1, 1, -3, 0, 0, 0], np.int64)}', "a buffer that it has not"),
    ('{"numbers": np.array([1, 1, 2, 0, 1, 0, 1, 9, 0, 0], np.int64)}', "a buffer that it has not"),
    ('{"numbers": np.array([1, 1, 2, 0, 1, 0, 0, 0, 0, 0], np.int64)}', "damaged"),
)


def test_damaged_calls_are_errors() -> None:
    out = python(
        WORKLOAD
        + f"""
carried = {{}}
lowering = jax.ffi.ffi_lowering
def damaged(target, **options):
    rule = lowering(target, **options)
    def lower(ctx, *operands, **attributes):
        carried.update(attributes)
        return rule(ctx, *operands, **{{**attributes, **damage()}})
    return lower
jax.ffi.ffi_lowering = damaged
for damage in ({", ".join(f"lambda: {damage}" for damage, _ in DAMAGES)}):
    try:
        jax.jit(lambda x: f(x))(x).block_until_ready()
        print("no error")
    except (ValueError, RuntimeError) as e:
        print(" ".join(str(e).split()))
jax.ffi.ffi_lowering = lowering
jax.clear_caches()
np.testing.assert_array_equal(f(x), 2 * x)  # the process goes on
"""
    )
    for said, (damage, message) in zip(out.splitlines(), DAMAGES, strict=True):
        assert message in said, (damage, said)


def test_an_old_jax_is_refused_and_lives_on() -> None:
    out = python(
        WORKLOAD
        + """
jax.__version__ = "0.4.30"
try:
    f(x)
except Exception as e:
    print(type(e).__name__, "PTO880" in str(e))
print(float(jax.jit(jnp.sum)(x)))
"""
    )
    assert out.split()[:2] == ["UnsupportedError", "True"]


def test_without_jax_the_import_says_what_to_install() -> None:
    out = python(
        """
import sys
sys.modules["jax"] = None  # as if it were not there
try:
    from pto_wsp_jax import as_jax
except ImportError as e:
    print(e)
"""
    )
    assert "PTO880" in out
    assert "pip install 'pto_wsp[jax]'" in out


def test_pto_wsp_does_not_import_jax() -> None:
    assert python("import sys, pto_wsp, pto_wsp.tools.demo; print('jax' in sys.modules)").strip() == "False"
