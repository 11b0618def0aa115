"""Pipelines: processes that run concurrently, and the channels between them (semantics of time: `ir/network.py`).

    pipeline[name="pipe", timed=false] {
      c: channel<i64> = channel[depth=2, initial=0, latency=0, name="c", response=0]
      process[consumes=[], name="load", produces=["c"]] {
        seq_for i in i: Range(8) {
          task load[i](x=X[i], out=Y[i])
          send c (i)
        }
      }
      process[consumes=["c"], name="store", produces=[]] {
        consume c as k {
          task store[](x=Y[k], out=Z[k])
        }
      }
    }

Channels stand first, then processes; a channel is known in the processes of its pipeline alone. `depth`: tokens it holds, 0 for a
rendezvous; absent: as many as the plan bounds. `latency` and `response` are in cycles. An initial token k carries k in each field.
`consumes` and `produces` name the ends that a process has, whether it uses them or not: a channel is closed when all its producers
have ended or closed it. `replica` is what several processes of one body are replicas of. A process holds what a workload holds, and

    send c i x                gives a token to c, with a value for each field of its type
    i: i64, x: f64 = recv c   takes one
    consume c as i, x { }     takes one after the other, until c is closed and drained
    close c                   sends no more to c
    b: bool = try_send c i    sends if there is room now; whether it did      } where the pipeline is timed
    b: bool = query c         whether there is a token now                    }

Slots are private: a process begins with what they hold before the pipeline, and what it sets is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pto_wsp.ir.core import ChannelType, Dialect, DType, Eqn, Primitive, ScalarType, Type, Var, Wir
from pto_wsp.ir.scalars import SCALAR_DTYPES
from pto_wsp.ir.tasks import Scope, broken, no_cycles, operand

pipeline_p = Primitive("pipeline", Dialect.TASK, doc="processes that run concurrently")
process_p = Primitive("process", Dialect.TASK, doc="a sequence of its own within a pipeline")
channel_p = Primitive("channel", Dialect.TASK, doc="a channel between processes of a pipeline")
send_p = Primitive("send", Dialect.TASK, doc="gives a token to a channel")
recv_p = Primitive("recv", Dialect.TASK, doc="takes a token from a channel")
consume_p = Primitive("consume", Dialect.TASK, doc="for each token, until the channel is closed and drained")
close_p = Primitive("close", Dialect.TASK, doc="the end of what a process sends to a channel")
try_send_p = Primitive("try_send", Dialect.TASK, doc="gives a token to a channel if there is room now; whether it did")
query_p = Primitive("query", Dialect.TASK, doc="whether a channel has a token now")

SENDS = ("send", "try_send")
RECEIVES = ("recv", "consume", "query")
ENDS = (*SENDS, *RECEIVES, "close")
"""Equations of a process that name a channel."""
PIPELINES = ("pipeline", "process", "channel")
TIMED = ("try_send", "query")

MOST_DEPTH = 2**31 - 1
MOST_CYCLES = 2**40
"""Of a latency or a response."""


def pipelines(wir: Wir) -> Iterator[Eqn]:
    """Every pipeline, in program order, nested ones after those around them."""
    return (e for top in wir.body.eqns for e in top.walk() if e.prim == "pipeline")


def channels_of(pipeline: Eqn) -> tuple[Eqn, ...]:
    """Its channels, in order."""
    return tuple(e for e in pipeline.regions[0].eqns if e.prim == "channel")


def channel_names(wir: Wir) -> tuple[str, ...]:
    """The channels of all pipelines, in the order of the plan: `c`, or `pipe.c` where two have that name."""
    found = [(str(p.params["name"]), str(c.params["name"])) for p in pipelines(wir) for c in channels_of(p)]
    names = [c for _, c in found]
    return tuple(c if names.count(c) == 1 else f"{p}.{c}" for p, c in found)


def buffers_of(pipeline: Eqn) -> dict[str, str]:
    """By channel of views, the one in which the numbers of its free buffers wait: `c.free` of `c`. They are as many as the places in
    `c`, one at least, so a deeper `c` has more, while more places in `c.free` are none."""
    names = {str(c.params["name"]) for c in channels_of(pipeline)}
    return {name: f"{name}.free" for name in sorted(names) if f"{name}.free" in names}


def out_of_buffers(wir: Wir, waited_for: Iterable[str]) -> tuple[str, ...]:
    """Of the channels that processes wait for, those whose buffers are all in use: `c` where one waits for `c.free`."""
    free = {f: c for p in pipelines(wir) for c, f in buffers_of(p).items()}
    return tuple(dict.fromkeys(free[name] for name in waited_for if name in free))


def deepest_of_views(wir: Wir) -> tuple[str, int] | None:
    """The channel of views with the most buffers, and how many they are."""
    found = [
        (buffers_of(p), {str(c.params["name"]): c.params.get("depth") for c in channels_of(p)}) for p in pipelines(wir)
    ]
    counts = [(c, depths[free]) for buffers, depths in found for c, free in buffers.items()]
    return max(((c, n) for c, n in counts if isinstance(n, int)), key=lambda b: b[1], default=None)


def processes_of(pipeline: Eqn) -> tuple[Eqn, ...]:
    """Its processes, in order."""
    return tuple(e for e in pipeline.regions[0].eqns if e.prim == "process")


def ends_of(process: Eqn, which: str) -> tuple[str, ...]:
    """The channels that it `consumes` or `produces`, by name."""
    names = process.params.get(which)
    return tuple(n for n in names if isinstance(n, str)) if isinstance(names, tuple) else ()


def ends_inside(eqn: Eqn) -> Iterator[Eqn]:
    """The operations on channels of the process that an equation stands in: those inside of pipelines inside are theirs."""
    if eqn.prim in ENDS:
        yield eqn
    if eqn.prim != "pipeline":
        for e in (e for r in eqn.regions for e in r.eqns):
            yield from ends_inside(e)


def settings_of(channel: Eqn) -> dict[str, int]:
    """The numbers of a channel: latency, response, initial, and depth where it has one."""
    return {k: v for k, v in channel.params.items() if isinstance(v, int)}


def _need(ok: bool, eqn: Eqn, why: str) -> None:
    if not ok:
        raise broken(eqn, why)


def _params(eqn: Eqn, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    missing, unknown = set(needed) - set(eqn.params), set(eqn.params) - {*needed, *optional}
    _need(not missing, eqn, f"needs {', '.join(sorted(missing))}")
    _need(not unknown, eqn, f"has no {', '.join(sorted(unknown))}")


def _is_name(x: object) -> bool:
    return isinstance(x, str) and x != ""


def _plain(eqn: Eqn) -> None:
    _need(not eqn.regions and (eqn.prim == "channel" or not eqn.params), eqn, "has no regions and no parameters")


def _distinct(names: Sequence[object], eqn: Eqn, what: str) -> None:
    _need(len(set(names)) == len(names), eqn, f"two {what} share a name: {', '.join(map(str, names))}")


@pipeline_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    _need(not scope.pure, eqn, "the pure form has no processes")
    _params(eqn, ("name", "timed"), ("window",))
    _need(
        _is_name(eqn.params["name"]) and type(eqn.params["timed"]) is bool, eqn, "needs a name, and whether it is timed"
    )
    _need(len(eqn.regions) == 1 and not eqn.ins and not eqn.outs, eqn, "has one region, and takes and gives nothing")
    (region,) = eqn.regions
    prims = [e.prim for e in region.eqns]
    count = prims.count("channel")
    want = ["channel"] * count + ["process"] * (len(prims) - count)
    _need(
        not region.params and prims == want and count < len(prims), eqn, "holds channels, then processes, and no more"
    )
    for e in region.eqns:
        _need(_is_name(e.params.get("name")), e, "needs a name")
    channels, processes = channels_of(eqn), processes_of(eqn)
    _distinct([p.params["name"] for p in processes], eqn, "processes")
    names = [c.params["name"] for c in channels]
    _distinct(names, eqn, "channels")
    known = set(names)
    for p in processes:
        for which in ("consumes", "produces"):
            ends = p.params.get(which)
            _need(isinstance(ends, tuple) and known.issuperset(ends), p, f"{which} channels of its pipeline")
            assert isinstance(ends, tuple)
            _distinct(ends, p, "ends")
    fed, drained = ({name for p in processes for name in ends_of(p, which)} for which in ("produces", "consumes"))
    for c in channels:
        _need(c.params.get("initial") != 0 or c.params["name"] in fed, c, "nothing feeds it")
        _need(c.params["name"] in drained, c, "nothing drains it")


def _directly_inside(eqn: Eqn, scope: Scope) -> None:
    inside = scope.pipeline is not None and scope.process is None  # which holds nothing else
    _need(inside, eqn, "stands directly in a pipeline")


@process_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    _directly_inside(eqn, scope)
    _params(eqn, ("name", "consumes", "produces"), ("replica",))
    _need(_is_name(eqn.params.get("replica", "-")), eqn, "replica is a name")
    ok = len(eqn.regions) == 1 and not eqn.regions[0].params and not eqn.ins and not eqn.outs
    _need(ok, eqn, "has one region, and takes and gives nothing")


@channel_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    _directly_inside(eqn, scope)
    _params(eqn, ("name", "initial", "latency", "response"), ("depth",))
    _plain(eqn)
    _need(len(eqn.outs) == 1 and not eqn.ins, eqn, "gives one channel")
    t = eqn.outs[0].type
    ok = isinstance(t, ChannelType) and all(f.dtype in SCALAR_DTYPES for f in t.fields)
    _need(ok, eqn, f"{t} is no channel of scalars")
    for name in ("depth", "initial"):
        n = eqn.params.get(name, 0)
        _need(type(n) is int and 0 <= n <= MOST_DEPTH, eqn, f"{name} is {n}")
    for name in ("latency", "response"):
        n = eqn.params[name]
        _need(type(n) is int and 0 <= n <= MOST_CYCLES, eqn, f"{name} is {n}")
    initial, depth = eqn.params["initial"], eqn.params.get("depth")
    assert isinstance(initial, int)
    _need(not isinstance(depth, int) or initial <= depth, eqn, f"{initial} initial tokens, of {depth} that it holds")


def channel_type(eqn: Eqn) -> ChannelType:
    """Of the channel that an equation of a process names first."""
    x = eqn.ins[0] if eqn.ins else None
    t = x.type if isinstance(x, Var) else None
    if not isinstance(t, ChannelType):
        raise broken(eqn, "needs a channel")
    return t


def channel_var(eqn: Eqn) -> Var:
    """The channel that an equation of a process names."""
    channel_type(eqn)
    x = eqn.ins[0]
    assert isinstance(x, Var)
    return x


def _end(eqn: Eqn, scope: Scope, which: str) -> ChannelType:
    """The rules that all ends of a channel have in common."""
    t = channel_type(eqn)
    _need(scope.process is not None and scope.pipeline is not None, eqn, "stands in a process")
    assert scope.process is not None and scope.pipeline is not None
    v = channel_var(eqn)
    _need(scope.names.get(v.name) == v, eqn, f"there is no channel {v.name} in this pipeline")
    name = scope.channels[v.name].params["name"]
    _need(
        name in ends_of(scope.process, which), eqn, f"process {scope.process.params['name']} has no such end of {name}"
    )
    if eqn.prim in TIMED:
        _need(scope.pipeline.params.get("timed") is True, eqn, "its pipeline is not timed")
    if eqn.prim != "consume":
        _plain(eqn)
    return t


def _gives(eqn: Eqn, types: tuple[Type, ...]) -> None:
    _need(tuple(v.type for v in eqn.outs) == types, eqn, f"gives {', '.join(map(str, types)) or 'nothing'}")


_FLAG = (ScalarType(DType.BOOL),)


def _send_type(eqn: Eqn, scope: Scope) -> None:
    t = _end(eqn, scope, "produces")
    have = tuple(operand(x, scope, eqn) for x in eqn.ins[1:])
    _need(have == t.fields, eqn, f"its token is {', '.join(map(str, have)) or 'empty'}, but the channel is {t}")
    _gives(eqn, _FLAG if eqn.prim == "try_send" else ())


for _p in (send_p, try_send_p):
    _p.def_type(_send_type)


@recv_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    t = _end(eqn, scope, "consumes")
    _need(len(eqn.ins) == 1, eqn, "takes a channel alone")
    _gives(eqn, t.fields)


@consume_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    t = _end(eqn, scope, "consumes")
    ok = len(eqn.ins) == 1 and len(eqn.regions) == 1 and not eqn.params and not eqn.outs
    _need(ok, eqn, "takes a channel alone, and has one region")
    have = tuple(v.type for v in eqn.regions[0].params)
    _need(have == t.fields, eqn, f"its region takes other fields than {t}")


@close_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    _end(eqn, scope, "produces")
    _need(len(eqn.ins) == 1, eqn, "takes a channel alone")
    _gives(eqn, ())


@query_p.def_type
def _(eqn: Eqn, scope: Scope) -> None:
    _end(eqn, scope, "consumes")
    _need(len(eqn.ins) == 1, eqn, "takes a channel alone")
    _gives(eqn, _FLAG)


for _p in (pipeline_p, process_p, channel_p, send_p, try_send_p, recv_p, consume_p, close_p, query_p):
    _p.def_cost(no_cycles)


def entered(eqn: Eqn, inner: Scope) -> None:
    """What the regions of an equation may name, where that is not all that is known around it: no channels of other pipelines, and
    no tasks of other processes."""
    if eqn.prim == "pipeline":
        inner.pipeline, inner.process = eqn, None
        inner.channels = {v.name: c for c in channels_of(eqn) for v in c.outs}
        for name in [n for n, v in inner.names.items() if isinstance(v.type, ChannelType)]:
            del inner.names[name]
    elif eqn.prim == "process":
        inner.process = eqn
        inner.tokens = set(inner.tokens)
