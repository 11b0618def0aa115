"""The figures as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROUND = {"matmul_f32_odd": "matmul_f32", "rmsnorm_odd": "rmsnorm", "softmax_odd": "softmax"}
_ROW = "{:22} {:>3} {:>10} {:>10} {:>8}  {:>14}  {}"


def show(whole: Mapping[str, Any]) -> None:
    """Print rows: our time, the limit's, ours over it, the error, and each peer's time over ours."""
    for name, value in whole["machine"].items():
        print(f"{name}: {value}")
    print(_ROW.format("row", "thr", "ms", "limit ms", "x limit", "error", "peers: ms (x ours)"))
    by_key = {(r["name"], r["threads"]): r for r in whole["rows"]}
    for r in whole["rows"]:
        if "limit_ms" in r:
            _show_arrays(r, by_key)
        else:
            figures = {k: v for k, v in r.items() if isinstance(v, float)}
            print(f"{r['name']:22} {r['threads']:>3} " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
            for peer, us in r.get("peers", {}).items():
                print(f"{'':27}{peer}: {us:.4g} us ({us / r['us']:.2f} x ours)")
            for name in r.get("missing", ()):
                print(f"{'':27}{name}: not installed")
            for quoted in r.get("quoted", ()):
                print(f"{'':27}for comparison, not run here: {quoted}")


def _show_arrays(r: Mapping[str, Any], by_key: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
    peers = [f"{name} {ms:.3g} ({ms / r['ms']:.2f})" for name, ms in r["peers"].items()]
    peers += [f"{name}: not installed" for name in r["missing"]]
    whole = by_key.get((ROUND.get(r["name"], ""), r["threads"]))
    if whole:
        share = (r["limit_ms"] / r["ms"]) / (whole["limit_ms"] / whole["ms"])
        peers.append(f"{share:.2f} of the efficiency of {whole['name']}")
    one = by_key.get((r["name"], 1))
    if one and r["threads"] == 2:
        peers.append(f"{one['ms'] / r['ms']:.2f} x one thread")
    error = f"{r['error']['max']:.2g} {r['error']['unit']}"
    ratio = f"{r['ms'] / r['limit_ms']:.2f}"
    print(
        _ROW.format(r["name"], r["threads"], f"{r['ms']:.3f}", f"{r['limit_ms']:.3f}", ratio, error, "; ".join(peers))
    )
