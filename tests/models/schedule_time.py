"""Reference model of the semantic time of tasks under a schedule of nested scopes. Slow and obvious on purpose.

It is semantic_time.py with what scopes may say of single tasks. A task: dict(cost, deps=[ids]) and, where used, lane, unit, wait=[ids]
as there, and
  window: its ring, a place in `windows` (0). It counts there only.
  batch: its batch scope, a place in `batches`, or None: it is released at once.
  distance: cycles until the next issue, at least (0).
  priority (0) and steal (False), both of any task.
  bytes (0).
  composite (False): it takes no lane, whatever is said of lanes, priorities and stealing. Its lane is -1.
  stream: a number, or (scope, number): streams of one number in two scopes are two streams, but take the same turn.
Options: lanes | pools={"cube": n, "vector": m}; windows=[dict(tasks, bytes, mode)], each None, None and "stall" where left out;
batches=[tasks released together]; issue_cost, handover, read_cost, start, interleave.

The rules, on top of those of semantic_time.py:
- Composite: it starts when it is ready and lanes may take tasks, and is done at start + cost.
- Step: the next issue is due max(issue_cost, the task's distance) cycles after it.
- Windows: a task is issued when its own ring has room. The ring that has none stalls the orchestrator, and the stall is its own.
  Each ring retires in the order of issue of its tasks, whatever the others do.
- Modes: "stall" rings are always limited, "benchmark" rings never. "abort" rings are not limited at first; a mark of them above
  their limit is what is needed, and the answer. Where none is above, they are limited too, which only tells look-ahead.
- Look-ahead of interleaved issue is the limit of the ring of the first task not issued, as far as that is limited.
- Batches: a scope releases its open batch when that has as many tasks as its entry says. All open batches are released when a ring
  stalls, when a boundary waits, and when everything is issued.
- Take: a lane takes from its queue by (highest priority, time it came there, program order), stealable or not. After all lanes had
  their turn each lane still idle, in lane order, looks at the queues of its pool, takes the one with most stealable tasks (ties:
  lowest lane), and of it the stealable task that comes first in that order.

simulate(tasks, **options) -> dict(start, end, lane, issue, ready, total, windows=[dict(stalls, stall_cycles, high_water,
high_bytes)], scalar_waits, scalar_wait_cycles); issue: the cycle of issue; ready: the cycle it came into its lane's queue.
Or {"deadlock": dict(issued, retired) and unless there is no order: at="window" | "boundary" | "end", first=the position of what is
next to retire (in that window, or the lowest of all; None), and at a window its place, tasks and bytes in flight and more_bytes,
those there was no room for}.
Or {"abort": {place: dict(tasks, bytes)}}, with what is exceeded.
"""

import heapq


def turn_of(task, streams):
    stream = task.get("stream")
    number = stream[1] if isinstance(stream, tuple) else stream or 0
    return number % streams


def interleaved_order(tasks, streams, limits):
    """Issue order that takes one task of each stream in turn among the next unissued tasks, as many as the ring of the first of them
    holds, never past a dependence or a boundary. None: a dependence on a later task can never be met."""
    left, order, issued, turn = list(range(len(tasks))), [], set(), 0
    while left:
        limit = limits[tasks[left[0]].get("window", 0)]
        near = []
        for i in left if limit is None else left[:limit]:
            if tasks[i].get("wait"):  # what lies behind a boundary is not known yet
                near = near or [i]
                break
            near.append(i)
        for k in range(streams):
            s = (turn + k) % streams
            free = [i for i in near if turn_of(tasks[i], streams) == s and all(d in issued for d in tasks[i]["deps"])]
            if free:
                order.append(free[0])
                issued.add(free[0])
                left.remove(free[0])
                turn = (s + 1) % streams
                break
        else:
            return None
    return order


def simulate(tasks, *, windows=({},), **options):
    if not any(w.get("mode") == "abort" for w in windows):
        return simulate_limited(tasks, [w if w.get("mode") != "benchmark" else {} for w in windows], **options)
    free = simulate_limited(tasks, [w if w.get("mode", "stall") == "stall" else {} for w in windows], **options)
    if "deadlock" not in free:
        needed = {}
        for place, (limits, had) in enumerate(zip(windows, free["windows"], strict=True)):
            if limits.get("mode") == "abort":
                over = {}
                if limits.get("tasks") is not None and had["high_water"] > limits["tasks"]:
                    over["tasks"] = had["high_water"]
                if limits.get("bytes") is not None and had["high_bytes"] > limits["bytes"]:
                    over["bytes"] = had["high_bytes"]
                if over:
                    needed[place] = over
        if needed:
            return {"abort": needed}
    return simulate_limited(tasks, [w if w.get("mode") != "benchmark" else {} for w in windows], **options)


def simulate_limited(
    tasks,
    windows,
    *,
    lanes=None,
    pools=None,
    batches=(),
    issue_cost=0,
    handover=0,
    read_cost=0,
    start=0,
    interleave=None,
):
    n = len(tasks)
    if pools:
        units, first, k = [], {}, 0
        for name, count in pools.items():
            first[name] = k
            units += [name] * count
            k += count
        lanes = k
    else:
        units, first = [None] * lanes, {None: 0}
    order = list(range(n))
    if interleave:
        order = interleaved_order(tasks, interleave, [w.get("tasks") for w in windows])
        if order is None:
            return {"deadlock": {"issued": 0, "retired": 0}}
    released = [False] * n
    issue, begin, end, where = [None] * n, [None] * n, [None] * n, [None] * n
    done, queued = [False] * n, [False] * n
    ready_at = [None] * n
    busy = [False] * lanes
    queue, without_lane = [[] for _ in range(lanes)], []
    now = t_o = 0
    issued_count = waits = wait_cycles = 0  # issued_count: a position in `order`
    rings = [[] for _ in windows]  # in flight, in order of issue
    stats = [dict(stalls=0, stall_cycles=0, high_water=0, high_bytes=0) for _ in windows]
    read_paid = -1  # position in `order` whose boundary has been paid for
    stalled_since = waiting_since = None
    events, open_batches = [], [[] for _ in batches]

    def window(i):
        return tasks[i].get("window", 0)

    def num_bytes(ids):
        return sum(tasks[i].get("bytes", 0) for i in ids)

    def home(i):
        u = tasks[i].get("unit") if pools else None
        lane = tasks[i].get("lane")
        return first[u] + (i if lane is None else lane) % units.count(u)

    def may_start():
        if issued_count == n or waiting_since is not None:
            return True
        return False if start == "after_orchestration" else issued_count >= start

    def release_all():
        for batch in open_batches:
            for j in batch:
                released[j] = True
            batch.clear()

    def rank(entry):
        return (-tasks[entry[1]].get("priority", 0), *entry)

    def take(lane, source, among):
        pick = min(among, key=rank)
        queue[source].remove(pick)
        i = pick[1]
        begin[i], where[i], busy[lane] = now, lane, True
        heapq.heappush(events, (now + tasks[i]["cost"], 0, i))

    def end_of(i):
        end[i], done[i] = now, True
        if where[i] >= 0:
            busy[where[i]] = False

    def stealable(lane):
        return [entry for entry in queue[lane] if tasks[entry[1]].get("steal", False)]

    while True:
        changed = True
        while changed:  # the steps repeat until nothing more happens in this cycle
            changed = False
            for ring in rings:
                while ring and done[ring[0]]:
                    ring.pop(0)
                    changed = True
            while issued_count < n and t_o <= now:
                i = order[issued_count]
                if not all(done[d] for d in tasks[i].get("wait", [])):
                    if waiting_since is None:
                        waiting_since, waits, changed = now, waits + 1, True
                        release_all()
                    break
                if waiting_since is not None:
                    wait_cycles, waiting_since = wait_cycles + now - waiting_since, None
                if tasks[i].get("wait") and read_cost and read_paid != issued_count:
                    read_paid, t_o = issued_count, now + read_cost
                    heapq.heappush(events, (t_o, 1, -1))
                    continue
                ring, limits, stat = rings[window(i)], windows[window(i)], stats[window(i)]
                room = limits.get("tasks") is None or len(ring) < limits["tasks"]
                if limits.get("bytes") is not None and room and ring:
                    room = num_bytes(ring) + num_bytes([i]) <= limits["bytes"]
                if not room:
                    if stalled_since is None:
                        stalled_since, changed = now, True
                        stat["stalls"] += 1
                        release_all()
                    break
                if stalled_since is not None:
                    stat["stall_cycles"] += now - stalled_since
                    stalled_since = None
                issued_count += 1
                issue[i] = now
                ring.append(i)
                stat["high_water"] = max(stat["high_water"], len(ring))
                stat["high_bytes"] = max(stat["high_bytes"], num_bytes(ring))
                t_o = now + max(issue_cost, tasks[i].get("distance", 0))
                if tasks[i].get("batch") is None:
                    released[i] = True
                else:
                    batch = open_batches[tasks[i]["batch"]]
                    batch.append(i)
                    if len(batch) == batches[tasks[i]["batch"]]:
                        for j in batch:
                            released[j] = True
                        batch.clear()
                if issued_count == n:
                    release_all()
                if t_o > now:
                    heapq.heappush(events, (t_o, 1, -1))
                changed = True
            last = {}
            for i in order[:issued_count]:
                s = tasks[i].get("stream")
                prev = last.get(s) if s is not None else None
                if s is not None:
                    last[s] = i
                if not queued[i] and released[i] and all(done[d] for d in tasks[i]["deps"]) and (prev is None or done[prev]):
                    if ready_at[i] is None:
                        ready_at[i] = now + handover
                        if handover:
                            heapq.heappush(events, (now + handover, 1, -1))
                    if ready_at[i] <= now:
                        queued[i] = changed = True
                        if tasks[i].get("composite"):
                            without_lane.append(i)
                        else:
                            queue[home(i)].append((now, i))
            if may_start():
                for i in without_lane:
                    begin[i], where[i], changed = now, -1, True
                    heapq.heappush(events, (now + tasks[i]["cost"], 0, i))
                without_lane.clear()
                for lane in range(lanes):
                    if not busy[lane] and queue[lane]:
                        take(lane, lane, queue[lane])
                        changed = True
                for lane in range(lanes):
                    if not busy[lane]:
                        pool = [k for k in range(lanes) if units[k] == units[lane]]
                        source = max(pool, key=lambda k: (len(stealable(k)), -k))
                        if stealable(source):
                            take(lane, source, stealable(source))
                            changed = True
            while events and events[0][0] == now and events[0][1] == 0:  # zero-cost tasks end in the same cycle
                _, _, i = heapq.heappop(events)
                end_of(i)
                changed = True
        if not events:
            break
        now = events[0][0]
        while events and events[0][0] == now:
            _, kind, i = heapq.heappop(events)
            if kind == 0:
                end_of(i)
    if not all(done):
        why = {"issued": issued_count, "retired": issued_count - sum(map(len, rings))}
        first = min((ring[0] for ring in rings if ring), default=None)
        if issued_count == n:
            return {"deadlock": why | {"at": "end", "first": first}}
        if waiting_since is not None:
            return {"deadlock": why | {"at": "boundary", "first": first}}
        i = order[issued_count]
        ring = rings[window(i)]
        full = {"window": window(i), "tasks": len(ring), "bytes": num_bytes(ring), "more_bytes": num_bytes([i])}
        return {"deadlock": why | {"at": "window", "first": ring[0]} | full}
    return {
        "start": begin,
        "end": end,
        "lane": where,
        "issue": issue,
        "ready": ready_at,
        "total": max(end, default=0),
        "windows": stats,
        "scalar_waits": waits,
        "scalar_wait_cycles": wait_cycles,
    }
