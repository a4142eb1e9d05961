"""Operations that move values: shapes, slices, indices, padding, resizing."""

from __future__ import annotations

import numpy as np

from tests.engine.cases_math import FLAGS, X, real, vector, whole
from tests.engine.single_op import Case

SHAPE = [
    Case("Shape", [X]),
    Case("Shape", [X], since=15, attributes={"start": 1}),
    Case("Shape", [X], since=15, attributes={"start": -2, "end": -1}),
    Case("Size", [X]),
    *(
        Case("Reshape", [X, vector(*shape)], f"to-{shape}-{'constant' if fixed else 'computed'}", constant=fixed)
        for shape in ((6, 4), (-1,), (0, -1), (4, 0, 2), (2, -1, 2))
        for fixed in ([], [1])
    ),
    Case("Reshape", [real(0, 3), vector(3, 0)], since=14, constant=[1], attributes={"allowzero": 1}),
    *(Case("Flatten", [X], attributes={"axis": axis}) for axis in (0, 1, 2, 3)),
    Case("Flatten", [X], since=11, attributes={"axis": -1}),
    Case("Squeeze", [real(1, 3, 1, 2)]),
    Case("Squeeze", [real(1, 3, 1, 2)], until=12, attributes={"axes": [0, 2]}),
    Case("Squeeze", [real(1, 3, 1, 2)], since=11, until=12, attributes={"axes": [-2]}),
    Case("Squeeze", [real(1, 3, 1, 2), vector(0, -2)], "axes", since=13, constant=[1]),
    Case("Unsqueeze", [X], until=12, attributes={"axes": [0, 2]}),
    Case("Unsqueeze", [X], since=11, until=12, attributes={"axes": [-1]}),
    Case("Unsqueeze", [X, vector(-1, 1)], "axes", since=13, constant=[1]),
    Case("Unsqueeze", [X, vector(0)], "computed-axes", since=13),
    Case("Transpose", [X]),
    Case("Transpose", [X], attributes={"perm": [1, 2, 0]}),
    *(Case("Concat", [X, real(2, 3, 4)], attributes={"axis": axis}) for axis in (0, 1, 2)),
    Case("Concat", [X, real(2, 3, 1), real(2, 3, 2)], since=11, attributes={"axis": -1}),
    Case("Split", [real(6, 4)], until=12, outputs=3),
    Case("Split", [real(6, 4)], until=12, outputs=2, attributes={"axis": 1, "split": [1, 3]}),
    Case("Split", [real(6, 4), vector(2, 4)], "sizes", since=13, constant=[1], outputs=2),
    Case("Split", [real(6, 4)], "even", since=13, until=17, outputs=2, attributes={"axis": 1}),
    Case("Split", [real(7, 4)], "uneven", since=18, outputs=3, attributes={"num_outputs": 3}),
    Case("Expand", [real(3, 1), vector(2, 3, 4)]),
    Case("Expand", [real(3, 4), vector(1, 1)], "ones", constant=[1]),
    Case("Expand", [real(1), vector(2, 3)], "constant", constant=[1]),
    Case("Tile", [real(2, 3), vector(2, 3)]),
    Case("ConstantOfShape", [vector(2, 3)]),
    Case("ConstantOfShape", [np.array([], np.int64)], "scalar"),
    Case("Range", [np.array(1), np.array(9), np.array(3)], "int64"),
    Case("Range", [np.array(5), np.array(-2), np.array(-2)], "down"),
    Case("Range", [np.float32(0.5), np.float32(3), np.float32(0.7)], "float"),
    Case("DepthToSpace", [real(1, 8, 2, 3)], attributes={"blocksize": 2}),
    *(
        Case("DepthToSpace", [real(1, 8, 2, 3)], since=11, attributes={"blocksize": 2, "mode": m})
        for m in ("DCR", "CRD")
    ),
    Case("SpaceToDepth", [real(1, 2, 4, 6)], attributes={"blocksize": 2}),
    Case("Dropout", [X]),
    Case("Identity", [whole(3)], "int64"),
]  # fmt: skip

_BIG = np.iinfo(np.int64).max
SLICE = [
    Case("Slice", [X], until=9, attributes={"starts": [0, 1], "ends": [1, 3]}),
    Case("Slice", [X], until=9, attributes={"starts": [-2], "ends": [1000], "axes": [2]}),
    *(
        Case("Slice", [real(5, 6), *(vector(*part) for part in parts)], label, since=10, constant=fixed)
        for fixed in ([], [1, 2, 3, 4])
        for label, parts in (
            ("plain", ([1, 0], [3, 2])),
            ("axes", ([1], [4], [1])),
            ("negative", ([-3], [-1], [-1])),
            ("to-end", ([2], [_BIG], [0])),
            ("steps", ([0], [_BIG], [1], [2])),
            ("backwards", ([-1], [-_BIG], [1], [-1])),
            ("backwards-steps", ([4, 5], [0, -100], [0, 1], [-2, -3])),
            ("empty", ([3], [1], [0])),
        )
    ),
]

GATHER = [
    *(Case("Gather", [X, np.array([[0, 1], [1, 0]])], attributes={"axis": axis}) for axis in (0, 1, 2)),
    Case("Gather", [X, np.array(1)], "scalar", attributes={"axis": 1}),
    Case("Gather", [X, np.array(1)], "constant-scalar", constant=[1], attributes={"axis": 1}),
    Case("Gather", [X, np.array([-1, 0])], "negative", since=11),
    Case("Gather", [X, np.array([1, 0], np.int32)], "int32"),
    Case("GatherElements", [X, whole(2, 3, 4, low=0, high=2)], attributes={"axis": 0}),
    Case("GatherElements", [X, whole(2, 3, 2, low=-4, high=4)], attributes={"axis": -1}),
    Case("GatherND", [X, np.array([[0, 1], [1, 2]])]),
    Case("GatherND", [X, np.array([[[0]], [[-1]]])], "rows"),
    Case("GatherND", [X, np.array([[1], [2]])], since=12, attributes={"batch_dims": 1}),
    Case("GatherND", [real(2, 3, 4, 5), whole(2, 3, 2, 1, low=0, high=4)], since=12, attributes={"batch_dims": 2}),
    Case("ScatterElements", [real(3, 4), np.array([[0, 2], [1, 0]]), real(2, 2)], attributes={"axis": 0}),
    Case("ScatterElements", [real(3, 4), np.array([[-1, 2]]), real(1, 2)], since=11, attributes={"axis": 1}),
    *(
        Case("ScatterElements", [real(3, 4), np.array([[1, 1]]), real(1, 2)], since=18 if r in ("max", "min") else 16,
             attributes={"axis": 1, "reduction": r})
        for r in ("add", "mul", "max", "min")
    ),
    Case("ScatterND", [real(4, 3), np.array([[0], [2]]), real(2, 3)]),
    Case("ScatterND", [real(4, 3), np.array([[0, 1], [2, -1]]), real(2)], "elements"),
    *(
        Case("ScatterND", [real(4, 3), np.array([[1], [1]]), real(2, 3)], since=18 if r in ("max", "min") else 16,
             attributes={"reduction": r})
        for r in ("add", "mul", "max", "min")
    ),
    Case("OneHot", [whole(3, low=-4, high=4), np.array(4), np.array([0, 1], np.float32)]),
    Case("OneHot", [whole(2, 3, low=0, high=4), np.array([4]), np.array([2, 5])], attributes={"axis": 1}),
    Case("NonZero", [FLAGS.astype(np.float32)]),
    Case("Trilu", [real(4, 5)]),
    Case("Trilu", [real(2, 4, 5), np.array(1)], attributes={"upper": 0}),
]  # fmt: skip

PAD = [
    Case("Pad", [X], until=10, attributes={"pads": [0, 1, 2, 1, 0, 0]}),
    Case("Pad", [X], until=10, attributes={"pads": [0, 0, 1, 0, 0, 1], "value": 2.5}),
    *(Case("Pad", [X], until=10, attributes={"pads": [0, 1, 2, 0, 2, 1], "mode": m}) for m in ("reflect", "edge")),
    *(
        Case("Pad", [X, vector(0, 1, 2, 0, 2, 1)], since=11, constant=fixed, attributes={"mode": m})
        for m in ("constant", "reflect", "edge")
        for fixed in ([], [1])
    ),
    Case("Pad", [X, vector(0, 1, 2, 0, 2, 1)], since=19, constant=[1], attributes={"mode": "wrap"}),
    Case("Pad", [X, vector(0, 1, 2, 0, 2, 1), np.float32(1.5)], "value", since=11, constant=[1, 2]),
    Case("Pad", [X, vector(0, -1, 2, 0, -1, 1)], "crop", since=11, constant=[1]),
    Case("Pad", [whole(3, 4), vector(1, 1, 0, 0), np.array(7)], "int64", since=13, constant=[1, 2]),
    Case("Pad", [X, vector(1, 2), None, vector(-1)], "axes", since=18, constant=[1, 3]),
]

_IMAGE = real(1, 2, 5, 6)
_NONE = np.array([], np.float32)
_SIZES = ((8, 9), (3, 4), (1, 6), (10, 12))
_SYSTEMS = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
RESIZE = [
    *(Case("Upsample", [_IMAGE, np.array([1, 1, 2, 3], np.float32)], until=9, constant=[1], attributes={"mode": m})
      for m in ("nearest", "linear")),
    *(Case("Resize", [_IMAGE, np.array([1, 1, 2, 1.5], np.float32)], since=10, until=10, constant=[1],
           attributes={"mode": m}) for m in ("nearest", "linear")),
    *(Case("Resize", [_IMAGE, _NONE, _NONE, vector(1, 2, *sizes)], f"{mode}-{system}-{sizes}", since=11,
           until=21, constant=[1, 2, 3], attributes={"mode": mode, "coordinate_transformation_mode": system})
      for mode in ("nearest", "linear", "cubic") for system in _SYSTEMS for sizes in _SIZES),
    *(Case("Resize", [_IMAGE, None, np.array([1, 1, *scales], np.float32)], f"{mode}-{system}-scales-{scales}",
           since=13, constant=[2], attributes={"mode": mode, "coordinate_transformation_mode": system})
      for mode in ("nearest", "linear", "cubic") for system in _SYSTEMS for scales in ((2, 2), (1.7, 0.6))),
    *(Case("Resize", [_IMAGE, None, None, vector(1, 2, *sizes)], f"nearest-{rounding}-{system}-{sizes}", since=13,
           constant=[3], attributes={"nearest_mode": rounding, "coordinate_transformation_mode": system})
      for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
      for system in ("half_pixel", "asymmetric", "align_corners") for sizes in ((8, 9), (10, 3))),
    *(Case("Resize", [_IMAGE, None, None, vector(8, 9)], f"axes-{axes}", since=18, constant=[3],
           attributes={"axes": list(axes), "mode": "linear"}) for axes in ((2, 3), (-2, -1))),
    Case("Resize", [_IMAGE, None, None, vector(8, 9)], "axes-swapped", since=18, constant=[3],
         attributes={"axes": [3, 2], "mode": "nearest"}),
    Case("Resize", [_IMAGE, None, np.array([1, 1, 2, 1.5], np.float32)], "computed", since=13,
         attributes={"mode": "linear"}),
    *(Case("Resize", [_IMAGE, None, None, vector(8, 9)], f"policy-{policy}", since=18, constant=[3],
           attributes={"axes": [2, 3], "keep_aspect_ratio_policy": policy, "mode": "linear"})
      for policy in ("not_larger", "not_smaller")),
    *(Case("Resize", [_IMAGE, None, None, vector(1, 2, 8, 9)], f"cubic-{a}-{outside}", since=13, constant=[3],
           attributes={"mode": "cubic", "cubic_coeff_a": a, "exclude_outside": outside})
      for a in (-0.5, -0.75) for outside in (0, 1)),
    *(Case("Resize", [real(1, 2, 12, 9), None, None, vector(1, 2, 5, 4)], f"antialias-{m}", since=18, constant=[3],
           attributes={"mode": m, "antialias": 1}) for m in ("linear", "cubic")),
    Case("Resize", [_IMAGE, np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.3], np.float32), None, vector(1, 2, 6, 7)], "crop",
         since=13, constant=[1, 3],
         attributes={"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize",
                     "extrapolation_value": 9.0}),
    Case("Resize", [_IMAGE, None, np.array([1, 1, 2, 2], np.float32)], "symmetric", since=19, constant=[2],
         attributes={"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}),
    Case("Resize", [_IMAGE, _NONE, _NONE, vector(1, 2, 10, 3)], "tf-nearest", since=11, until=12, constant=[1, 2, 3],
         attributes={"coordinate_transformation_mode": "tf_half_pixel_for_nn"}),
    Case("Resize", [real(2, 5, 6, 3), None, None, vector(2, 7, 9, 3)], "channels-last", since=13, constant=[3],
         attributes={"mode": "linear"}),
    Case("Resize", [real(2, 3, 7), None, None, vector(2, 3, 9)], "1d", since=13, constant=[3],
         attributes={"mode": "linear"}),
]  # fmt: skip

CASES = [*SHAPE, *SLICE, *GATHER, *PAD, *RESIZE]
