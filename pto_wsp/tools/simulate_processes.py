"""Semantic time of processes and channels; `pto_wsp.tools.simulate` exports what is here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from pto_wsp.errors import BindError, LimitError, PtoError, here, no_options
from pto_wsp.runtime.core import core
from pto_wsp.tools.simulation_options import END_OF_TIME, beyond_time, choice, integer, number

Array = np.ndarray[Any, Any]
Spec = tuple[int, int, int, int]

_CODES = {name: code for code, name in enumerate(("work", "send", "recv", "close", "repeat", "consume", "end"))}
_FORMS = {
    "work": '["work", cycles]',
    "send": '["send", channel]',
    "recv": '["recv", channel]',
    "close": '["close", channel]',
    "repeat": '["repeat", times, operations]',
    "consume": '["consume", channel, operations]',
}
_WITH_BODY = ("repeat", "consume")
_ON_CHANNELS = ("send", "recv", "close", "consume")
_DEEPEST = 1000
_MOST_OPERATIONS = 2**22
_FIELDS = ("capacity", "latency", "response", "initial")


def processes(
    processes: Sequence[Mapping[str, Any]],
    channels: Mapping[str, Mapping[str, Any]],
    *,
    times: str = "lists",
    max_cycles: int | None = None,
    max_actions: int = 10**9,
    **unknown: Any,
) -> dict[str, Any]:
    """Run processes and channels in semantic time.

    processes: dicts with a `name` and `ops`, what the process does one after another: ["work", cycles]; ["send", channel];
      ["recv", channel]; ["close", channel], it will not send there again; ["repeat", times, ops]; ["consume", channel, ops]: receive
      and do ops, until the channel is closed and drained. Who has a `send` of a channel in its ops is a producer of it; it is closed
      when each of them has ended or closed it. Of processes that could act at one cycle, the first in the list does.
    channels: by name, dicts with `capacity` (1; 0: a rendezvous; None: no limit), `latency` (0), `response` (0) and `initial`
      tokens (0), in cycles; what is left out is as in brackets.
    times: of each send and receive, as "lists", as "arrays" of int64, or "none" of them.
    max_cycles: no clock goes beyond it. None: 2**62 - 1, and going beyond that is an error.
    max_actions: actions in a row after which no clock has moved. An action is one turn of a process: its work, a request to send or
      receive whether granted or not, a close. Beginning and ending loops is none.

    Returns a dict: `time`, the clock of each process at its end by name, `total` cycles, and by channel `sent` and `received`, the times
    of its sends (initial tokens are sent at 0) and receives in the order of its tokens; with times="none" instead `tokens`: numbers of
    them by channel, {"sent": 9, "received": 8}.
    Or {"deadlock": [{"process", "op": "send" | "recv", "channel", "clock"}, ...]}: who waits for ever, in the order of `processes`;
    `remedy` says what would help.
    Or {"closed": {"process", "channel", "clock"}} for a send after the process's own close.
    Or {"limit": cycles}, the largest clock when one of the limits was reached.

    An action takes time logarithmic in the number of processes. Memory grows with processes, channels, operations as written, tokens
    in channels (and the capacity that was used), and the times that are kept.

    Raises BindError for processes or channels that are none (more than 2**22 operations, or 1000 loops in each other, are too many), for
    times of 2**62 cycles and more, and where more than 2**26 times would have to be kept, of tokens in channels or of what is returned; ScheduleError for options with wrong values; UnsupportedError for
    unknown ones.
    """
    no_options("simulate.processes", unknown, "times, max_cycles, max_actions")
    limits = _limits(max_cycles, max_actions)
    keep = choice("times", times, ("lists", "arrays", "none"))
    specs, names, columns = _checked(processes, channels)
    got: dict[str, Any] = core().simulate_network(columns, list(specs.values()), *limits, keep != "none")
    _refuse(got["status"])
    of_channels = list(specs)
    waiting = [
        {"process": names[p], "op": "send" if sends else "recv", "channel": of_channels[c], "clock": clock}
        for p, sends, c, clock in got["waiting"]
    ]
    match got["status"]:
        case "limit":
            return {"limit": got["latest"]}
        case "blocked":
            return {"deadlock": waiting}
        case "closed":
            return {"closed": {name: waiting[0][name] for name in ("process", "channel", "clock")}}
        case _:
            pass
    out: dict[str, Any] = {"time": dict(zip(names, got["clocks"], strict=True)), "total": got["latest"]}
    if keep == "none":
        numbers = zip(specs, got["sent"], got["received"], strict=True)
        return out | {"tokens": {name: {"sent": sent, "received": received} for name, sent, received in numbers}}
    for what in ("sent", "received"):
        arrays = (np.frombuffer(x, np.int64) for x in got[f"{what}_at"])
        out[what] = dict(zip(specs, arrays if keep == "arrays" else (x.tolist() for x in arrays), strict=True))
    return out


def remedy(
    processes: Sequence[Mapping[str, Any]],
    channels: Mapping[str, Mapping[str, Any]],
    *,
    max_cycles: int | None = None,
    max_actions: int = 10**8,
    **unknown: Any,
) -> dict[str, int] | None:
    """Capacities with which a network has no deadlock: of those channels that must hold more, by name.

    The smallest full channel on a cycle of waits (or of which nobody receives any more; ties: the first of `channels`) is raised by one,
    and that again, until nothing is blocked; where tokens come in an order that depends on time, also when run so from its start. So
    one less in the channel that was raised last is a deadlock. Empty where there is none, None where no capacity helps.

    max_actions: actions in all, whether clocks move or not: a network that raising a channel lets go on for ever is found out by nothing
      else. 10**8 take some seconds.

    The other arguments are those of `processes`, and so are the errors. Raises LimitError where a limit is reached first, or channels
    were raised 2**20 times.
    """
    no_options("simulate.remedy", unknown, "max_cycles, max_actions")
    limits = _limits(max_cycles, max_actions)
    specs, _, columns = _checked(processes, channels)
    status, capacities = core().network_remedy(columns, list(specs.values()), *limits)
    _refuse(status)
    if status == "limit":
        raise LimitError(
            "PTO811",
            "no capacities were found within the limits",
            values={"max_cycles": max_cycles, "max_actions": max_actions, "raised at most": core().MOST_RAISES},
            loc=here(),
            fix="give the processes an end, or higher limits",
        )
    if status == "blocked":
        return None
    pairs = zip(specs.items(), capacities, strict=True)
    return {name: capacity for (name, spec), capacity in pairs if capacity != spec[0]}


def throttle(
    processes: Sequence[Mapping[str, Any]],
    channels: Mapping[str, Mapping[str, Any]],
    *,
    max_cycles: int | None = None,
    max_actions: int = 10**9,
    **unknown: Any,
) -> dict[str, int] | None:
    """Channels that make a network take longer than it would with any capacities, by name, each with the capacity at which it does not.

    With these the network takes as long as without limits, and with one less in any of them longer, where the order of tokens does not
    depend on time. Of a token each p cycles that is ceil((latency + response) / p). Empty where nothing is throttled; None where the network comes to no end whatever the capacities.

    It simulates as often as there are channels, times the logarithm of their tokens. The arguments are those of `processes`, and so are
    the errors.
    """
    no_options("simulate.throttle", unknown, "max_cycles, max_actions")
    limits = _limits(max_cycles, max_actions)
    specs, _, columns = _checked(processes, channels)
    names, given = list(specs), list(specs.values())

    def run(capacities: Sequence[int]) -> dict[str, Any]:
        found = [(capacity, *spec[1:]) for capacity, spec in zip(capacities, given, strict=True)]
        got: dict[str, Any] = core().simulate_network(columns, found, *limits, False)
        _refuse(got["status"])
        return got

    capacities = [core().NO_LIMIT] * len(given)
    best = run(capacities)
    if best["status"] != "done":
        return None

    def suffices(k: int, capacity: int) -> bool:
        got = run([*capacities[:k], capacity, *capacities[k + 1 :]])
        return got["status"] == "done" and got["latest"] == best["latest"]

    for k, spec in enumerate(given):
        low = high = spec[0]
        if not suffices(k, low):
            high = max(low + 1, best["sent"][k])  # as many as there are tokens are no limit
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if suffices(k, middle) else (middle, high)
        capacities[k] = high
    return {name: c for name, c, spec in zip(names, capacities, given, strict=True) if c != spec[0]}


def _limits(max_cycles: object, max_actions: object) -> tuple[int, int]:
    return (
        END_OF_TIME - 1 if max_cycles is None else number("max_cycles", max_cycles),
        number("max_actions", max_actions, 1),
    )


def _refuse(status: str) -> None:
    if status == "overflow":
        raise beyond_time()
    if status == "full":
        raise BindError(
            *("PTO810", "the simulation would have to keep too many times"),
            values={"at most": core().MOST_TIMES},
            loc=here(),
            fix='write times="none", give channels a capacity, or simulate fewer tokens',
        )


def _checked(processes: object, channels: object) -> tuple[dict[str, Spec], list[str], dict[str, Array]]:
    """Channels by name, the names of processes, and what they do as the core has it."""
    specs = _channels(channels)
    places = {name: place for place, name in enumerate(specs)}
    names: list[str] = []
    codes: list[int] = []
    values: list[int] = []
    first = [0]
    for name, ops in _processes(processes):
        names.append(name)
        for code, value in _operations(name, ops, places):
            codes.append(code)
            values.append(value)
            if len(codes) > _MOST_OPERATIONS:
                what = f"has more operations than {_MOST_OPERATIONS}, with those of the processes before it"
                raise _process_error(name, what, {}, 'write ["repeat", times, operations]')
        first.append(len(codes))
    lists = {"first": first, "codes": codes, "values": values}
    return specs, names, {name: np.array(x, np.int64) for name, x in lists.items()}


# channels


def _channels(channels: object) -> dict[str, Spec]:
    if not isinstance(channels, Mapping) or not all(isinstance(name, str) for name in channels):
        raise BindError(
            *("PTO808", "channels are a dict of dicts, by name"),
            values={"given": repr(channels)[:80]},
            loc=here(),
            fix='write {"c": {"capacity": 2}}',
        )
    return {name: _channel(name, channel) for name, channel in channels.items()}


def _channel(name: str, channel: object) -> Spec:
    def error(what: str, values: Mapping[str, object], fix: str) -> BindError:
        return BindError("PTO808", f"channel {name!r} {what}", values=values, loc=here(), fix=fix)

    if not isinstance(channel, Mapping) or not set(channel) <= set(_FIELDS):
        values = {"channel": repr(channel)[:80], "fields": ", ".join(_FIELDS)}
        raise error("is not a dict of known fields", values, "use these fields")
    found: dict[str, int] = {}
    for field, default in zip(_FIELDS, (1, 0, 0, 0), strict=True):
        given = channel.get(field, default)
        n = core().NO_LIMIT if field == "capacity" and given is None else integer(given)
        if n is None or n < 0 or (given is not None and n >= END_OF_TIME):
            also = ", or None" if field == "capacity" else ""
            raise error(
                f"has a {field} that it cannot have",
                {field: repr(given)[:80]},
                f"it is 0 to 2**62 - 1 cycles{also}"
                if field in ("latency", "response")
                else f"it is 0 to 2**62 - 1{also}",
            )
        found[field] = n
    if found["initial"] > found["capacity"]:
        values = {"initial": found["initial"], "capacity": found["capacity"]}
        what = "is a rendezvous, which holds no tokens" if not found["capacity"] else "does not hold its initial tokens"
        raise error(what, values, "give it that capacity, or fewer tokens")
    return found["capacity"], found["latency"], found["response"], found["initial"]


# processes


def _process_error(name: str, what: str, values: Mapping[str, object], fix: str) -> PtoError:
    return BindError("PTO806", f"process {name!r} {what}", values=values, loc=here(), fix=fix)


def _processes(processes: object) -> Iterator[tuple[str, object]]:
    """Name and operations of each."""
    if isinstance(processes, str | bytes | Mapping) or not isinstance(processes, Sequence):
        raise BindError(
            *("PTO806", "processes are a list of dicts"),
            values={"given": repr(processes)[:80]},
            loc=here(),
            fix='write [{"name": "p", "ops": [["work", 10], ["send", "c"]]}]',
        )
    seen: set[str] = set()
    for i, process in enumerate(processes):
        name = process.get("name") if isinstance(process, Mapping) else None
        if not isinstance(process, Mapping) or set(process) != {"name", "ops"} or not isinstance(name, str):
            raise BindError(
                *("PTO806", f"process {i} is not a dict with a name and ops, and no more"),
                values={"process": repr(process)[:80]},
                loc=here(),
                fix='write {"name": "p", "ops": [["work", 10], ["send", "c"]]}',
            )
        if name in seen:
            raise BindError(
                *("PTO807", f"two processes have the name {name!r}"),
                values={"the second": i},
                loc=here(),
                fix="give each a name of its own",
            )
        seen.add(name)
        yield name, process["ops"]


def _operations(process: str, ops: object, places: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Code and value of each operation, and of the end of each body."""
    if not _is_list(ops):
        raise _process_error(process, "has ops that are no list", {"ops": repr(ops)[:80]}, 'write [["work", 10]]')
    bodies, path = [ops], [0]  # those that are begun, and how far each is
    while bodies:
        if path[-1] == len(bodies[-1]):
            bodies.pop()
            path.pop()
            if bodies:
                yield _CODES["end"], 0
                path[-1] += 1
            continue
        op = bodies[-1][path[-1]]
        yield _operation(process, op, path, places)
        if op[0] not in _WITH_BODY:
            path[-1] += 1
            continue
        if len(bodies) == _DEEPEST:
            raise _process_error(process, f"has bodies in bodies, deeper than {_DEEPEST}", {}, "write it flatter")
        bodies.append(op[2])
        path.append(0)


def _is_list(x: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(x, Sequence) and not isinstance(x, str | bytes)


def _operation(process: str, op: Any, path: list[int], places: Mapping[str, int]) -> tuple[int, int]:
    def error(what: str, fix: str) -> PtoError:
        place = "[2]".join(f"[{i}]" for i in path)
        return _process_error(process, f"has an operation {what}", {f"ops{place}": repr(op)[:80]}, fix)

    kind = op[0] if _is_list(op) and len(op) else None
    if not isinstance(kind, str) or kind not in _FORMS:
        raise error("that there is not", f"there are {', '.join(_FORMS.values())}")
    if len(op) != (3 if kind in _WITH_BODY else 2) or (kind in _WITH_BODY and not _is_list(op[2])):
        raise error("that was written wrongly", f"write {_FORMS[kind]}")
    if kind in _ON_CHANNELS:
        if not isinstance(op[1], str):
            raise error("on something that is no channel", f"write {_FORMS[kind]}, with a name")
        if op[1] not in places:
            raise BindError(
                *("PTO809", f"process {process!r} uses channel {op[1]!r}, which there is not"),
                values={"operation": repr(op)[:80], "there are": ", ".join(places)[:80]},
                loc=here(),
                fix="name one of the channels, or add it to them",
            )
        return _CODES[kind], places[op[1]]
    n = integer(op[1])
    if n is None or not 0 <= n < END_OF_TIME:
        raise error("with a number that it cannot have", "it is an integer from 0 to 2**62 - 1")
    return _CODES[kind], n
