"""Hypothesis strategies: arrays of every datatype, requests and responses."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stagemesh.oip.datatypes import DATATYPES
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.tensors import Tensor

names = st.text(max_size=8)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
datatypes = st.sampled_from(sorted(DATATYPES))
parameters = st.dictionaries(
    names,
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    max_size=3,
)


@st.composite
def arrays(draw: st.DrawFn, datatype: str | None = None) -> np.ndarray[Any, Any]:
    """An array of one datatype; BYTES as an object array of bytes."""
    found = DATATYPES[datatype or draw(datatypes)]
    shape = draw(shapes)
    if found.name == "BYTES":
        return draw(hnp.arrays(object, shape, elements=st.binary(max_size=6), fill=st.nothing()))
    if found.name == "BF16":
        return draw(hnp.arrays(np.uint16, shape)).view(found.dtype)
    return draw(hnp.arrays(found.dtype, shape))


tensors = arrays().map(Tensor.from_numpy)
requests = st.builds(
    InferRequest,
    names,
    st.dictionaries(names, tensors, max_size=3),
    names,
    names,
    parameters,
    st.lists(names, max_size=3).map(tuple),
)
responses = st.builds(InferResponse, names, st.dictionaries(names, tensors, max_size=3), names, names, parameters)


def same(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    """Equal in shape, dtype and every bit, NaN included."""
    if left.dtype.hasobject or right.dtype.hasobject:
        return left.shape == right.shape and left.tolist() == right.tolist()
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
