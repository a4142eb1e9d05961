"""Operations on single values, reductions, activations."""

from __future__ import annotations

import numpy as np

from tests.engine.single_op import Array, Case

RNG = np.random.default_rng(7)


def real(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def whole(*shape: int, low: int = -9, high: int = 10, dtype: type = np.int64) -> Array:
    return RNG.integers(low, high, shape).astype(dtype)


def vector(*values: int) -> Array:
    return np.array(values, np.int64)


X = real(2, 3, 4)
POSITIVE = np.abs(real(2, 3, 4)) + np.float32(0.1)
UNIT = np.tanh(X)
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.2, -0.7], np.float32)
STRANGE = np.array([1.0, np.nan, np.inf, -np.inf, 0.0], np.float32)
FLAGS = whole(2, 3, 4, low=0, high=2).astype(np.bool_)
OTHER_FLAGS = whole(3, 4, low=0, high=2).astype(np.bool_)

UNARY = [
    *(
        Case(op, [X])
        for op in (
            "Abs",
            "Neg",
            "Exp",
            "Sin",
            "Cos",
            "Tan",
            "Sinh",
            "Cosh",
            "Tanh",
            "Asinh",
            "Atan",
            "Floor",
            "Ceil",
            "Sign",
            "Erf",
            "Relu",
            "Sigmoid",
            "Softplus",
            "Softsign",
            "Elu",
            "Selu",
            "LeakyRelu",
            "HardSigmoid",
            "HardSwish",
            "Mish",
            "Gelu",
            "Celu",
            "ThresholdedRelu",
            "Identity",
        )
    ),
    *(Case(op, [POSITIVE]) for op in ("Sqrt", "Log", "Reciprocal")),
    *(Case(op, [UNIT * np.float32(0.9)]) for op in ("Asin", "Acos", "Atanh")),
    Case("Acosh", [POSITIVE + 1]),
    Case("Round", [HALVES]),
    Case("IsNaN", [STRANGE]),
    Case("IsInf", [STRANGE]),
    Case("IsInf", [STRANGE], attributes={"detect_negative": 0}),
    Case("IsInf", [STRANGE], attributes={"detect_positive": 0}),
    Case("Not", [FLAGS]),
    Case("Abs", [whole(5)], "int64"),
    Case("Neg", [whole(5, dtype=np.int32)], "int32"),
    Case("Sign", [whole(5)], "int64"),
    Case("BitwiseNot", [whole(5)]),
    Case("Elu", [X], attributes={"alpha": 0.3}),
    Case("Celu", [X], attributes={"alpha": 0.3}),
    Case("Selu", [X], attributes={"alpha": 1.5, "gamma": 1.2}),
    Case("LeakyRelu", [X], attributes={"alpha": 0.3}),
    Case("HardSigmoid", [X], attributes={"alpha": 0.3, "beta": 0.4}),
    Case("ThresholdedRelu", [X], attributes={"alpha": 0.3}),
    Case("Gelu", [X], attributes={"approximate": "tanh"}),
    Case("Softplus", [X * 40], "large"),
    Case("Sigmoid", [X * 4], "wide"),
]

BROADCASTS = (
    ("same", X, real(2, 3, 4)),
    ("row", X, real(4)),
    ("both", real(3, 1), real(1, 4)),
    ("scalar", X, real()),
)
BINARY = [
    *(Case(op, [a, b], label) for op in ("Add", "Sub", "Mul", "Div") for label, a, b in BROADCASTS),
    *(
        Case(op, [whole(3, 4), whole(4)], "int64")
        for op in ("Add", "Sub", "Mul", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    ),
    *(Case(op, [whole(3, 4, dtype=np.int32), whole(4, dtype=np.int32)], "int32") for op in ("Add", "Sub", "Mul")),
    *(Case(op, [X, real(4)]) for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")),
    Case("Equal", [X, real(4)], since=11),
    Case("Div", [whole(3, 4), whole(4, low=1)], "int64-truncates"),
    Case("Div", [whole(3, 4, dtype=np.int32), np.array([-3, 2, -1, 5], np.int32)], "int32-negative"),
    Case("Mod", [whole(3, 4), whole(4, low=1)], "int64"),
    Case("Mod", [whole(3, 4), np.array([-3, 2, -1, 5])], "negative-divisor"),
    Case("Mod", [X, POSITIVE], attributes={"fmod": 1}),
    Case("Mod", [whole(3, 4), np.array([-3, 2, -1, 5])], "int64-fmod", attributes={"fmod": 1}),
    Case("Pow", [POSITIVE, real(4)]),
    Case("Pow", [X, np.array(2, np.float32)], "square", constant=[1]),
    Case("Pow", [POSITIVE, np.array([0.5], np.float32)], "root", constant=[1]),
    Case("Pow", [X, np.array([3], np.int64)], "int-exponent", since=12, constant=[1]),
    Case("Pow", [whole(4, low=0), whole(4, low=0, high=4)], "int64", since=12),
    Case("And", [FLAGS, OTHER_FLAGS]),
    Case("Or", [FLAGS, OTHER_FLAGS]),
    Case("Xor", [FLAGS, OTHER_FLAGS]),
    Case("Equal", [FLAGS, OTHER_FLAGS], "bool"),
    *(Case(op, [whole(3, 4), whole(4)]) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    *(
        Case(
            "BitShift", [whole(4, low=0, dtype=np.uint8), np.array([1, 0, 2, 3], np.uint8)], attributes={"direction": d}
        )
        for d in ("LEFT", "RIGHT")
    ),
    Case("PRelu", [real(2, 3, 4, 4), real(3, 1, 1)]),
    Case("PRelu", [X, real(1)], "one-slope"),
    Case("Where", [FLAGS, X, real(4)]),
    Case("Where", [OTHER_FLAGS, np.array(1, np.int64), whole(3, 4)], "int64"),
    *(
        Case(op, [real(3, 4), real(4), real(3, 1)][:count], f"{count}-inputs")
        for op in ("Max", "Min", "Sum", "Mean")
        for count in (1, 2, 3)
    ),
    *(Case(op, [whole(3, 4), whole(4)], "int64", since=12) for op in ("Max", "Min")),
]

CLIP = [
    Case("Clip", [X], until=10),
    Case("Clip", [X], until=10, attributes={"min": -0.5, "max": 0.5}),
    Case("Clip", [X], since=11),
    Case("Clip", [X, np.float32(-0.5)], "low", since=11),
    Case("Clip", [X, None, np.float32(0.5)], "high", since=11),
    Case("Clip", [X, np.float32(-0.5), np.float32(0.5)], "computed", since=11),
    Case("Clip", [X, np.float32(-0.5), np.float32(0.5)], "constant", since=11, constant=[1, 2]),
    Case("Clip", [whole(5), np.array(-2), np.array(3)], "int64", since=12, constant=[1, 2]),
]

CASTS = [
    *(Case("Cast", [X * 5], f"to-{code}", attributes={"to": code}) for code in (1, 6, 7, 9, 10, 11)),
    *(Case("Cast", [whole(6)], f"int64-to-{code}", attributes={"to": code}) for code in (1, 3, 6, 9)),
    Case("Cast", [FLAGS], "bool-to-float", attributes={"to": 1}),
    Case("Cast", [whole(6, dtype=np.int8)], "int8-to-float", attributes={"to": 1}),
    Case("Cast", [whole(6, low=0, dtype=np.uint8)], "uint8-to-float", attributes={"to": 1}),
    Case("CastLike", [X * 5, vector(1)]),
]

SOFT = [
    Case(op, [X], f"axis-{axis}", until=until, since=since, attributes={} if axis is None else {"axis": axis})
    for op in ("Softmax", "LogSoftmax", "Hardmax")
    for axis in (None, 0, 1, 2, -1, -2)
    for since, until in ((9, 12), (13, 21))
]

_REDUCTIONS = (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
)
_AXES = (None, [1], [-1], [0, 2], [1, 2])
REDUCE = [
    *(
        Case(
            op,
            [POSITIVE],
            f"axes-{axes}-keep-{keep}",
            until=12 if op == "ReduceSum" else 17,
            attributes={"keepdims": keep} | ({} if axes is None else {"axes": axes}),
        )
        for op in [*_REDUCTIONS, "ReduceLogSum", "ReduceLogSumExp"]
        for axes in _AXES
        for keep in (0, 1)
    ),
    *(
        Case(
            op,
            [POSITIVE, None if axes is None else vector(*axes)],
            f"axes-{axes}-keep-{keep}",
            since=13 if op == "ReduceSum" else 18,
            constant=[1],
            attributes={"keepdims": keep},
        )
        for op in [*_REDUCTIONS, "ReduceLogSum", "ReduceLogSumExp"]
        for axes in _AXES
        for keep in (0, 1)
    ),
    Case("ReduceSum", [X], "noop", since=13, attributes={"noop_with_empty_axes": 1}),
    Case("ReduceSum", [X, vector(1)], "computed-axes", since=13),
    Case("ReduceMean", [real()], "scalar", until=17),
    Case("ReduceMax", [whole(3, 4)], "int64", since=12, until=17, attributes={"axes": [1]}),
    Case("ReduceSum", [whole(3, 4), vector(0)], "int64", since=13, constant=[1]),
    *(
        Case(op, [X], attributes={"axis": axis, "keepdims": keep})
        for op in ("ArgMax", "ArgMin")
        for axis in (0, 1, -1)
        for keep in (0, 1)
    ),
    Case("ArgMax", [whole(3, 4, low=0, high=2).astype(np.float32)], "ties", attributes={"axis": 1}),
    *(
        Case(op, [whole(3, 4, low=0, high=2).astype(np.float32)], "last", since=12,
             attributes={"axis": 1, "select_last_index": 1})
        for op in ("ArgMax", "ArgMin")
    ),
    Case("TopK", [X], "attribute", until=9, outputs=2, attributes={"k": 2}),
    Case("TopK", [X, vector(2)], since=10, constant=[1], outputs=2),
    Case("TopK", [X, vector(2)], since=10, constant=[1], outputs=2, attributes={"axis": 1}),
    Case("TopK", [X, vector(2)], since=11, constant=[1], outputs=2, attributes={"largest": 0}),
    Case("TopK", [whole(3, 4), vector(3)], "int64-computed", since=11, outputs=2),
    *(
        Case("CumSum", [X, np.array(axis)], f"axis-{axis}", attributes={"exclusive": e, "reverse": r})
        for axis, e, r in ((0, 0, 0), (1, 1, 0), (2, 0, 1), (-1, 1, 1))
    ),
]  # fmt: skip

CASES = [*UNARY, *BINARY, *CLIP, *CASTS, *SOFT, *REDUCE]
