"""Plans as text: an independent reader of the bytes, for tests. Each node is a line, blocks are indented."""

from __future__ import annotations

import struct

NODES = [
    "block",
    "seq",
    "loop",
    "eval",
    "task",
    "scalar",
    "read",
    "cond",
    "slot_get",
    "slot_set",
    "acquire",
    "release",
    "reset",
]
OPS = (
    [
        "add",
        "sub",
        "mul",
        "floordiv",
        "mod",
        "div",
        "and",
        "or",
        "xor",
        "not",
        "shl",
        "shr",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "min",
        "max",
        "abs",
        "neg",
        "where",
        "cast",
    ],
    ["item", "sum", "max", "min", "any", "all"],
    ["mul", "floordiv", "mod", "min", "max"],
)
DTYPES = ["f32", "f16", "bf16", "i32", "bool", "i64", "u64", "f64"]
RULE_ARITY = {
    **dict.fromkeys(("position", "id", "cost", "least_loaded"), 0),
    **dict.fromkeys(("first_appearance", "splitmix64", "not", "abs", "neg", "cast"), 1),
    "where": 3,
}
Tensor = tuple[str, int]


class Reader:
    """Reads the bytes once, in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.tensors: list[Tensor] = []
        self.params: list[list[str]] = []

    def bytes(self, n: int) -> bytes:
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n : self.at]

    def u(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.bytes(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def s(self) -> int:
        z = self.u()
        return z >> 1 if not z & 1 else -(z >> 1) - 1

    def text(self) -> str:
        return self.bytes(self.u()).decode()

    def affine(self) -> str:
        const = self.s()
        terms = [(self.u(), self.s()) for _ in range(self.u())]
        parts = [f"r{r}" if c == 1 else f"{c}*r{r}" for r, c in terms]
        return " + ".join([*parts, *([str(const)] if const or not parts else [])])

    def operand(self) -> str:
        kind = self.u()
        if kind == 0:
            return f"r{self.u()}"
        return "#" + (self.bytes(8)[::-1].hex().lstrip("0") or "0") if kind == 1 else f"({self.affine()})"

    def dims(self, n: int, *, sized: bool) -> str:
        out: list[str] = []
        for _ in range(n):
            kind = self.u()
            if kind == 0:
                out.append(self.affine())
            elif kind == 1:
                out.append(f"{self.affine()} :+ {self.u() if sized else '_'}")
            elif kind == 2:
                out.append(f"tile {self.affine()} to {self.affine()} of {self.u() if sized else '_'}")
            elif kind == 3:
                out.append(f"gather {self.view(sized=True)}")
            else:
                out.append(f"span {self.affine()} :+ {self.affine()}")
        return "[" + ", ".join(out) + "]"

    def view(self, *, sized: bool) -> str:
        """A tensor, a flag (tracked, or a read that waits) shown as `!`, and its dimensions."""
        tensor, flag = self.u(), self.u()
        name, rank = self.tensors[tensor]
        return f"{'!' * flag}{name}{self.dims(rank, sized=sized)}"

    def head(self, kernels: list[list[str]]) -> list[str]:
        """Up to the kernels, of each of which `kernels` gives the parameters: "tile", "region" or the dtype of a scalar."""
        assert self.bytes(8) == b"PWPL" + struct.pack("<I", 6)
        rows = [f"symbol r{i} {self.text()}" for i in range(self.u())]
        rows.append(f"registers {self.u()}")
        for _ in range(self.u()):
            name, dtype, flags, rank = self.text(), DTYPES[self.u()], self.u(), self.u()
            self.tensors.append((name, rank))
            shape = ",".join(self.affine() for _ in range(rank))
            words = [w for bit, w in ((1, "read"), (2, "written"), (4, "temporary")) if flags & bit]
            rows.append(f"tensor {name}: {dtype}[{shape}] {' '.join(words)}".rstrip())
        rows += [f"slot {i}: {DTYPES[self.u()]}" for i in range(self.u())]
        self.params = kernels
        assert self.u() == len(kernels)
        return rows

    def body(self) -> list[str]:
        """From behind the kernels to the end."""
        rows = self.machine()
        rows += [f"deps {self.u()}", f"handles {self.u()}"]
        rows += self.node()
        assert self.at == len(self.data)
        return rows

    def machine(self) -> list[str]:
        """The tables of the schedule; the first window, which always holds, is left out, and so is what is not said."""
        _ = [self.u() for _ in range(4)]
        pools = [self.u() for _ in range(self.u())]
        rows = [f"pools {' '.join(map(str, pools))}"] if len(pools) > 1 else []
        for k in range(self.u()):
            lanes, flags = self.u(), self.u()
            rows.append(f"dispatch {k + 1}: {lanes} lanes" + " pinned" * (flags & 1) + " cyclic" * (flags >> 1))
        windows = [(self.u(), self.u(), self.u()) for _ in range(self.u())]
        rows += [f"window {k}: {t} tasks, {b} bytes, mode {m}" for k, (t, b, m) in enumerate(windows) if k]
        rows += [f"batch {k + 1}: {self.u()}" for k in range(self.u())]
        rows += [f"streams {k + 1}: {self.u()}" for k in range(self.u())]
        start, turns, memories = self.u(), self.u(), self.u()
        rows += [f"start {start}"] * bool(start) + [f"turns {turns}"] * bool(turns)
        return rows + [f"memories {memories}"] * bool(memories)

    def rule(self, name: str) -> str:
        """` lane m0 mod(s0, #3)`: whose memory, the steps and the result; empty where there is none."""
        count = self.u()
        if not count:
            return ""
        memory = self.u()
        steps: list[str] = []
        for _ in range(count - 1):
            op, dtype, to = self.text(), DTYPES[self.u()], DTYPES[self.u()]
            operands = [self.rule_operand() for _ in range(RULE_ARITY.get(op, 2))]
            steps.append(f"{op}{':' + to if op == 'cast' else ''}.{dtype}({', '.join(operands)})")
        result = DTYPES[self.u()]
        body = "; ".join(f"s{k} = {text}" for k, text in enumerate(steps))
        return f" {name} m{memory} [{body}] {self.rule_operand()}: {result}"

    def rule_operand(self) -> str:
        kind = self.u()
        if kind == 3:
            return f"s{self.u()}"
        if kind == 1:
            return "#" + (self.bytes(8)[::-1].hex().lstrip("0") or "0")
        return f"r{self.u()}" if kind == 0 else f"({self.affine()})"

    def origin(self) -> str:
        n = self.u()
        return f"@{n - 1} " if n else ""

    def block(self) -> list[str]:
        return [f"  {row}" for _ in range(self.u()) for row in self.node()]

    def node(self) -> list[str]:
        kind = NODES[self.u()]
        match kind:
            case "block" | "seq":
                return [kind, *self.block()]
            case "loop":
                return self.loop()
            case "cond":
                return [f"{self.origin()}cond {self.operand()}", *self.node(), *self.node()]
            case "eval":
                origin, reg, op = self.origin(), self.u(), OPS[2][self.u()]
                return [f"{origin}r{reg} = {op} ({self.affine()}) ({self.affine()})"]
            case "scalar":
                return [self.scalar()]
            case "read":
                return [f"{self.origin()}r{self.u()} = {OPS[1][self.u()]} {self.view(sized=True)}"]
            case "slot_get":
                return [f"{self.origin()}r{self.u()} = slot {self.u()}"]
            case "slot_set":
                return [f"{self.origin()}slot {self.u()} = {self.operand()}"]
            case "task":
                return [self.task()]
            case "reset":
                return [f"reset h{self.u()}"]
            case _:
                return [f"{kind} {self.tensors[self.u()][0]}"]

    def loop(self) -> list[str]:
        origin, mode, reg, extent, number = self.origin(), self.u(), self.u(), self.affine(), self.u()
        head = f"{origin}{('par', 'seq', 'while')[mode]} r{reg} < {extent} (loop {number})"
        if mode != 2:
            return [head, *self.node()]
        condition = self.node()
        return [head, *condition, f"  while {self.operand()}", *self.node()]

    def scalar(self) -> str:
        origin, reg, op, dtype = self.origin(), self.u(), OPS[0][self.u()], DTYPES[self.u()]
        checked, to = " checked" * self.u(), DTYPES[self.u()]
        operands = " ".join(self.operand() for _ in range(self.u()))
        return f"{origin}r{reg} = {op} {dtype}{checked}{f' to {to}' if op == 'cast' else ''} {operands}"

    def task(self) -> str:
        kernel, site, dispatch, window = self.u(), self.u(), self.u(), self.u()
        coords = ", ".join(self.affine() for _ in range(self.u()))
        args = ", ".join(self.argument(p) for p in self.params[kernel])
        handle, after = self.u(), [f"h{self.u()}" for _ in range(self.u())]
        joins = f" joins h{handle - 1}" if handle else ""
        waits = f" after {' '.join(after)}" if after else ""
        batch, steal, stream = self.u(), self.u(), self.u()
        said = f" batch {batch}" * bool(batch) + " steal" * steal + f" streams {stream}" * bool(stream)
        said += "".join([self.rule(name) for name in ("lane", "stream", "priority", "distance", "pool")])
        where = f" dispatch {dispatch}" * bool(dispatch) + f" window {window}" * bool(window)
        return f"task {site} k{kernel}[{coords}]({args}){where}{joins}{waits}{said}"

    def argument(self, param: str) -> str:
        if param in ("tile", "region"):
            return self.view(sized=param == "region")
        kind = self.u()
        if kind == 0:
            bits = self.bytes(8)
            number = (
                struct.unpack("<d", bits)[0] if param[0] in "fb" and param != "bool" else int.from_bytes(bits, "little")
            )
            return repr(number)
        return f"({self.affine()})" if kind == 1 else f"r{self.u()}: {DTYPES[self.u()]}"
