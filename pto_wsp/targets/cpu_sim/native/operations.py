"""What an operation on sixteen lanes is in C++: the functions of csrc/src/tiles, by operation and dtypes."""

from __future__ import annotations

from pto_wsp.targets.cpu_sim.native.steps import Step

TAGS = {"f32": "F32", "f16": "F16", "bf16": "BF16", "i32": "I32", "bool": "Bool"}
"""How a dtype gets between memory and lanes."""
REGISTERS = {"f32": "F", "f16": "F", "bf16": "F", "i32": "I", "bool": "M"}
_FLOATS = frozenset({"f32", "f16", "bf16"})
_NUMBERS = _FLOATS | {"i32"}

REDUCTIONS = {"rowsum": "SumOf", "rowmax": "MaximumOf", "rowmin": "MinimumOf", "rowprod": "ProductOf"}
COPIES = ("load", "store", "full", "broadcast")
HALVES = ("f16", "bf16")
"""Lanes hold them as f32, which changes signalling NaNs."""
_FLOAT_UNARY = {
    "exp": "Exp",
    "log": "Log",
    "exp2": "Exp2",
    "log2": "Log2",
    "sqrt": "Sqrt",
    "rsqrt": "Rsqrt",
    "reciprocal": "Reciprocal",
    "tanh": "Tanh",
    "erf": "Erf",
    "floor": "Floor",
    "ceil": "Ceil",
    "rint": "Rint",
    "trunc": "Trunc",
    "neg": "NegF",
    "abs": "AbsF",
    "div": "Div",
    "fma": "Fma",
}
_NUMBER = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "eq": "Eq",
    "ne": "Ne",
    "lt": "Lt",
    "le": "Le",
    "gt": "Gt",
    "ge": "Ge",
    "where": "Select",
}
_OF_I32 = {"neg": "NegI", "abs": "AbsI"}
_OF_BOOL = {
    "logical_not": "Not",
    "logical_and": "And",
    "logical_or": "Or",
    "eq": "Xnor",
    "ne": "Xor",
    "where": "SelectMask",
}
_EXACT = frozenset({"neg", "abs", "maximum", "minimum", "where", "floor", "ceil", "rint", "trunc", *COPIES})
"""Operations whose result is a value of the dtype without being rounded."""

_COST = {
    "exp": 16,
    "tanh": 24,
    "erf": 24,
    "log": 18,
    "exp2": 16,
    "log2": 18,
    "rsqrt": 12,
    "div": 6,
    "sqrt": 8,
    "reciprocal": 6,
}


def function(step: Step) -> str | None:
    """The function object of an elementwise operation; "" of a copy; None: it has none here."""
    t, to = step.operand, step.result.dtype
    if t not in TAGS or to not in TAGS:
        return None
    if step.op in COPIES:
        return ""
    if step.op == "cast":
        return _cast(t, to)
    if t in _FLOATS and step.op in _FLOAT_UNARY:
        return _FLOAT_UNARY[step.op]
    if t == "i32" and step.op in _OF_I32:
        return _OF_I32[step.op]
    if t == "bool":
        return _OF_BOOL.get(step.op)
    return _NUMBER.get(step.op) if t in _NUMBERS else None


def _cast(t: str, to: str) -> str | None:
    if t == to:
        return None  # bits of a NaN stay
    if t in _FLOATS and to in _FLOATS:
        return "Same"
    if t == "bool":
        return "OneI" if to == "i32" else "OneF"
    if to == "bool":
        return "NonzeroI" if t == "i32" else "NonzeroF"
    if to == "i32":
        return "Truncate"
    return "ToFloat" if to == "f32" else "ToFloatOdd"


def is_exact(step: Step) -> bool:
    """Whether the result of the function needs no rounding to the dtype."""
    same = step.operand == step.result.dtype
    return step.result.dtype in ("f32", "i32", "bool") or (step.op in _EXACT and same)


def cost(step: Step) -> int:
    """Roughly, instructions a chunk of lanes: what computing it again takes."""
    if step.op in COPIES:
        return 0
    return _COST.get(step.op, 1) + (0 if is_exact(step) else 6)
