"""Convolutions, pools, normalisations, matrix products, quantisation."""

from __future__ import annotations

import numpy as np

from tests.engine.cases_math import POSITIVE, X, real, whole
from tests.engine.single_op import Case

IMAGE = real(2, 4, 9, 8)

CONV = [
    Case("Conv", [IMAGE, real(6, 4, 3, 3)]),
    Case("Conv", [IMAGE, real(6, 4, 3, 3), real(6)], "bias-computed-filters"),
    *(
        Case("Conv", [IMAGE, real(6, 4 // attributes.get("group", 1), 3, 3), real(6)], constant=[1, 2],
             attributes=attributes)
        for attributes in (
            {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
            {"pads": [0, 1, 2, 0]},
            {"strides": [2, 3], "pads": [1, 0, 1, 0]},
            {"dilations": [2, 1], "pads": [2, 1, 2, 1]},
            {"group": 2},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
            {"auto_pad": "SAME_UPPER", "dilations": [1, 1], "strides": [1, 3]},
            {"auto_pad": "VALID", "strides": [2, 2]},
        )
    ),
    Case("Conv", [IMAGE, real(4, 1, 3, 3)], "depthwise", constant=[1], attributes={"group": 4, "pads": [1] * 4}),
    Case("Conv", [IMAGE, real(5, 4, 1, 1)], "pointwise", constant=[1]),
    Case("Conv", [IMAGE, real(5, 4, 2, 4)], "even-same", constant=[1], attributes={"auto_pad": "SAME_UPPER"}),
    Case("Conv", [real(2, 3, 9), real(4, 3, 3)], "1d", constant=[1], attributes={"pads": [1, 2], "strides": [2]}),
    Case("Conv", [real(1, 2, 5, 5, 4), real(3, 2, 3, 3, 2)], "3d", constant=[1],
         attributes={"pads": [1, 0, 0, 1, 0, 1]}),
    *(
        Case("ConvTranspose", [IMAGE, real(4, 3, 3, 3), real(3)], constant=[1, 2], attributes=attributes)
        for attributes in (
            {},
            {"strides": [2, 2]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
            {"strides": [2, 3], "pads": [0, 1, 1, 0]},
            {"strides": [2, 2], "pads": [0, 1, 1, 0], "output_padding": [1, 0]},
            {"dilations": [2, 2]},
            {"strides": [2, 2], "output_shape": [18, 16]},
            {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
            {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
            {"strides": [2, 2], "auto_pad": "VALID"},
        )
    ),
    Case("ConvTranspose", [IMAGE, real(4, 2, 2, 2)], "grouped", constant=[1],
         attributes={"group": 2, "strides": [2, 2]}),
    Case("ConvTranspose", [real(1, 3, 7), real(3, 2, 4)], "1d", constant=[1],
         attributes={"strides": [2], "pads": [1, 1]}),
]  # fmt: skip

_POOLS = (
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
)
_CEIL = (
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1},
)
POOL = [
    *(Case("MaxPool", [IMAGE], attributes=attributes) for attributes in _POOLS),
    *(Case("MaxPool", [IMAGE], since=10, attributes=attributes) for attributes in _CEIL),
    Case("MaxPool", [IMAGE], since=10, attributes={"kernel_shape": [3, 2], "dilations": [2, 3]}),
    Case("MaxPool", [real(1, 2, 9)], "1d", attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("MaxPool", [real(1, 2, 5, 5, 5)], "3d", attributes={"kernel_shape": [2, 3, 2]}),
    Case("MaxPool", [whole(1, 2, 6, 6, dtype=np.int8)], "int8", since=12, attributes={"kernel_shape": [2, 2]}),
    Case("MaxPool", [IMAGE], "indices", outputs=2, attributes={"kernel_shape": [3, 3], "strides": [2, 2]}),
    Case("MaxPool", [IMAGE], "indices-padded", outputs=2, attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Case("MaxPool", [IMAGE], "indices-uneven", outputs=2, attributes={"kernel_shape": [3, 3], "pads": [0, 1, 2, 2]}),
    *(
        Case("AveragePool", [IMAGE], attributes=attributes | {"count_include_pad": counted})
        for attributes in _POOLS
        for counted in (0, 1)
    ),
    *(
        Case("AveragePool", [IMAGE], since=10, attributes=attributes | {"count_include_pad": counted})
        for attributes in _CEIL
        for counted in (0, 1)
    ),
    Case("AveragePool", [IMAGE], since=19, attributes={"kernel_shape": [3, 2], "dilations": [2, 3]}),
    Case("AveragePool", [real(1, 2, 9)], "1d", attributes={"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    Case("LpPool", [IMAGE], attributes={"kernel_shape": [3, 3], "strides": [2, 2], "p": 3}),
    Case("LpPool", [IMAGE], attributes={"kernel_shape": [2, 2], "pads": [1, 0, 1, 0]}),
    Case("GlobalAveragePool", [IMAGE]),
    Case("GlobalMaxPool", [IMAGE]),
]

_CHANNEL = [real(4), real(4), real(4), np.abs(real(4)) + np.float32(0.1)]
NORM = [
    Case("BatchNormalization", [IMAGE, *_CHANNEL]),
    Case("BatchNormalization", [IMAGE, *_CHANNEL], constant=[1, 2, 3, 4], attributes={"epsilon": 1e-2}),
    Case("BatchNormalization", [real(3, 4), *_CHANNEL], "2d"),
    Case("InstanceNormalization", [IMAGE, real(4), real(4)]),
    Case("InstanceNormalization", [IMAGE, real(4), real(4)], attributes={"epsilon": 1e-1}),
    Case("LayerNormalization", [X, real(4), real(4)]),
    Case("LayerNormalization", [X, real(4)], "no-bias", attributes={"epsilon": 1e-2}),
    Case("LayerNormalization", [X, real(3, 4), real(3, 4)], attributes={"axis": 1}),
    Case("LayerNormalization", [X, real(4), real(4)], "statistics", outputs=3),
    Case("GroupNormalization", [IMAGE, real(2), real(2)], since=18, until=20, attributes={"num_groups": 2}),
    Case("GroupNormalization", [IMAGE, real(4), real(4)], since=21, attributes={"num_groups": 2}),
    Case("LRN", [IMAGE], attributes={"size": 3}),
    Case("LRN", [IMAGE], attributes={"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    *(Case("LpNormalization", [X], attributes={"p": p, "axis": axis}) for p, axis in ((1, 0), (2, 1), (2, -1))),
]

MATMUL = [
    Case("MatMul", [real(3, 4), real(4, 5)]),
    Case("MatMul", [real(2, 3, 4), real(4, 5)], "batched"),
    Case("MatMul", [real(2, 1, 3, 4), real(3, 4, 5)], "broadcast"),
    Case("MatMul", [real(4), real(4)], "vectors"),
    Case("MatMul", [real(3, 4), real(4)], "vector"),
    Case("MatMul", [whole(3, 4), whole(4, 5)], "int64"),
    Case("Gemm", [real(3, 4), real(4, 5)], "no-bias", since=11),
    Case("Gemm", [real(3, 4), real(4, 5), real(5)]),
    Case("Gemm", [real(3, 4), real(4, 5), real(3, 1)], "column"),
    Case("Gemm", [real(3, 4), real(4, 5), real()], "scalar"),
    Case("Gemm", [real(4, 3), real(5, 4), real(5)], attributes={"transA": 1, "transB": 1}),
    Case("Gemm", [real(3, 4), real(4, 5), real(5)], attributes={"alpha": 0.5, "beta": 2.0}),
    Case("Gemm", [real(3, 4), real(4, 5)], "alpha", since=11, attributes={"alpha": 0.5}),
    Case("Einsum", [real(2, 3), real(3, 4)], attributes={"equation": "ij,jk->ik"}),
    Case("Einsum", [real(2, 3, 4), real(2, 4, 5)], attributes={"equation": "bij,bjk->bik"}),
]

_ROUNDED = (POSITIVE * 20).astype(np.float32)
QUANTISE = [
    Case("DequantizeLinear", [whole(3, 4, dtype=np.int8), np.float32(0.1), np.int8(2)], since=10),
    Case("DequantizeLinear", [whole(3, 4, low=0, dtype=np.uint8), np.float32(0.1)], "no-zero", since=10),
    Case("DequantizeLinear", [whole(3, 4, dtype=np.int8), real(4), np.zeros(4, np.int8)], "axis", since=13,
         attributes={"axis": 1}),
    Case("QuantizeLinear", [_ROUNDED, np.float32(0.7), np.uint8(3)], since=10),
    Case("QuantizeLinear", [X, np.float32(0.05), np.int8(0)], "clamps", since=10),
    Case("QuantizeLinear", [X, np.abs(real(3)), np.zeros(3, np.int8)], "axis", since=13, attributes={"axis": 1}),
]  # fmt: skip

CASES = [*CONV, *POOL, *NORM, *MATMUL, *QUANTISE]
