"""Resize in all of ONNX's coordinate systems, one axis after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from services.infer.engine.host import whole
from services.infer.engine.ops_shape import checked_sizes, same_size
from services.infer.engine.registry import Call, OperatorRegistry, Result
from stagemesh.errors import ConfigError, StageFailed

operators = OperatorRegistry()

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
MOST_REACH = 1024
MODES = ("nearest", "linear", "cubic")
_NEAREST: dict[str, Callable[[Tensor], Tensor]] = {
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": torch.floor,
    "ceil": torch.ceil,
}


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one axis is resized: from `size` to `target` pixels; `scale` is the factor, `span` the cut of tf_crop."""

    axis: int
    size: Any
    target: Any
    scale: Any
    span: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Options:
    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool


@operators.register("Upsample")
def upsample(call: Call) -> Result:
    scales = call.numbers(1) if call.has(1) else list(call.node.reals("scales") or ())
    options = _Options(_mode(call), "asymmetric", "floor", -0.75, False, 0.0, False)
    return _resize(call, options, _scaled(call, scales, range(len(scales))))


@operators.register("Resize", until=10)
def resize_10(call: Call) -> Result:
    scales = call.numbers(1)
    options = _Options(_mode(call), "asymmetric", "floor", -0.75, False, 0.0, False)
    return _resize(call, options, _scaled(call, scales, range(len(scales))))


@operators.register("Resize", since=11)
def resize(call: Call) -> Result:
    node, rank = call.node, len(call.shape(0))
    coordinates = node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    if coordinates not in COORDINATES or nearest not in _NEAREST:
        raise ConfigError(f"{node}: unknown coordinate or nearest mode: found {coordinates!r} and {nearest!r}")
    options = _Options(
        _mode(call),
        coordinates,
        nearest,
        node.real("cubic_coeff_a", -0.75),
        bool(node.integer("exclude_outside", 0)),
        node.real("extrapolation_value", 0.0),
        bool(node.integer("antialias", 0)),
    )
    axes = [axis % rank for axis in node.integers("axes") or range(rank)]
    return _resize(call, options, _planned(call, coordinates, axes))


def _mode(call: Call) -> str:
    mode = call.node.text("mode", "nearest")
    if mode not in MODES:
        raise ConfigError(f"{call.node}: attribute 'mode': expected one of {', '.join(MODES)}, found {mode!r}")
    return mode


def _planned(call: Call, coordinates: str, axes: list[int]) -> list[_Axis]:
    # an empty tensor stands for an optional input left out, in files of opset 11 and 12
    roi = call.numbers(1) if coordinates == "tf_crop_and_resize" and call.has(1) else []
    scales = call.numbers(2) if call.has(2) else []
    sizes = call.numbers(3) if call.has(3) else []
    if (sizes and len(sizes) != len(axes)) or (scales and len(scales) != len(axes)) or not (scales or sizes):
        raise StageFailed(f"{call.node}: expected scales or sizes for axes {axes}, found {scales} and {sizes}")
    plan = _sized(call, sizes, axes) if sizes else _scaled(call, scales, axes)
    if not roi:
        return plan
    spans = {axis: (roi[at], roi[at + len(axes)]) for at, axis in enumerate(axes)}
    return [_Axis(step.axis, step.size, step.target, step.scale, spans[step.axis]) for step in plan]


def _scaled(call: Call, scales: list[Any], axes: Any) -> list[_Axis]:
    shape, plan = call.shape(0), []
    for axis, scale in zip(axes, scales, strict=True):
        if isinstance(scale, float) and not (0 < scale < math.inf):
            raise StageFailed(f"{call.node}: expected scales above 0, found {scales}")
        target = shape[axis] if scale == 1 else whole(math.floor(shape[axis] * scale))
        plan.append(_Axis(axis, shape[axis], target, scale))
    return plan


def _sized(call: Call, sizes: list[Any], axes: list[int]) -> list[_Axis]:
    shape = call.shape(0)
    policy = call.node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        pairs = [(axis, shape[axis], size) for axis, size in zip(axes, sizes, strict=True)]
        return [_Axis(axis, old, new, 1.0 if same_size(old, new) else new / old) for axis, old, new in pairs]
    choose = min if policy == "not_larger" else max
    scale = choose(size / shape[axis] for axis, size in zip(axes, sizes, strict=True))
    return [_Axis(axis, shape[axis], math.floor(shape[axis] * scale + 0.5), scale) for axis in axes]


def _resize(call: Call, options: _Options, plan: list[_Axis]) -> Tensor:
    values = call.tensor(0)
    sizes = list(values.shape)
    for step in plan:
        sizes[step.axis] = step.target
    checked_sizes(call, sizes)
    crops = options.coordinates == "tf_crop_and_resize"
    plan = [step for step in plan if crops or not (isinstance(step.scale, float) and step.scale == 1)]
    fast = _interpolated(values, options, plan, sizes)
    if fast is not None:
        return fast
    dtype = values.dtype
    if options.mode != "nearest" and not values.is_floating_point():
        values = values.to(torch.float32)
    outside = None
    for step in plan:
        positions = _positions(step, options, values.device)
        if crops:
            beyond = (positions < 0) | (positions > step.size - 1)
            shape = [-1 if axis == step.axis else 1 for axis in range(values.ndim)]
            outside = beyond.reshape(shape) if outside is None else outside | beyond.reshape(shape)
        values = _resample(values, step, positions, options)
    if outside is not None:
        values = torch.where(outside, torch.tensor(options.extrapolation, dtype=values.dtype), values)
    return values.to(dtype)


def _interpolated(values: Tensor, options: _Options, plan: list[_Axis], sizes: list[Any]) -> Tensor | None:
    """torch's own bilinear, where it computes the same: 4 dimensions, the last two resized to given sizes."""
    exact = all(isinstance(s.size, int) and s.scale == s.target / s.size and s.target > 1 for s in plan)
    if values.ndim != 4 or {step.axis for step in plan} - {2, 3} or not exact or not values.is_floating_point():
        return None
    if options.mode != "linear" or options.antialias:
        return None
    if options.coordinates in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return F.interpolate(values, sizes[2:], mode="bilinear", align_corners=False)
    if options.coordinates == "align_corners":
        return F.interpolate(values, sizes[2:], mode="bilinear", align_corners=True)
    return None


def _positions(step: _Axis, options: _Options, device: torch.device) -> Tensor:
    """Where each of the `target` pixels lies among the `size` pixels of the input, float32 [target]."""
    positions: Tensor = _located(step, options.coordinates, torch.arange(step.target, device=device).to(torch.float32))
    return positions


def _located(step: _Axis, kind: str, x: Any) -> Any:
    scale = step.scale
    if kind == "asymmetric":
        return x / scale
    if kind == "align_corners":
        return x * ((step.size - 1) / (step.target - 1)) if step.target > 1 else x * 0
    if kind == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    if kind == "tf_crop_and_resize":
        start, end = step.span
        if step.target > 1:
            return start * (step.size - 1) + x * ((end - start) * (step.size - 1) / (step.target - 1))
        return x * 0 + 0.5 * (start + end) * (step.size - 1)
    if kind == "pytorch_half_pixel" and step.target <= 1:
        return x * 0
    if kind == "half_pixel_symmetric":
        adjustment = step.target / (scale * step.size)
        return step.size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5
    return (x + 0.5) / scale - 0.5


def _resample(values: Tensor, step: _Axis, positions: Tensor, options: _Options) -> Tensor:
    if options.mode == "nearest":
        indices = _NEAREST[options.nearest](positions).to(torch.int64).clamp(0, step.size - 1)
        return values.index_select(step.axis, indices)
    offsets, weights = _taps(step, positions, options)
    base = torch.floor(positions).to(torch.int64)
    shape = [-1 if axis == step.axis else 1 for axis in range(values.ndim)]
    total: Tensor | None = None
    for offset, weight in zip(offsets, weights, strict=True):
        indices = (base + offset).clamp(0, step.size - 1)
        part = values.index_select(step.axis, indices) * weight.to(values.dtype).reshape(shape)
        total = part if total is None else total + part
    assert total is not None  # every filter has taps
    return total


def _taps(step: _Axis, positions: Tensor, options: _Options) -> tuple[list[int], list[Tensor]]:
    """Offsets from the pixel at or before a position, and the weight of each for every position."""
    radius = 1 if options.mode == "linear" else 2
    stretch = 1.0
    if options.antialias and step.scale < 1:
        stretch = float(step.scale)
    if radius > stretch * MOST_REACH:
        raise StageFailed(f"expected a scale above {radius / MOST_REACH}, found {stretch}")
    reach = math.ceil(radius / stretch)
    offsets = list(range(1 - reach, reach + 1))
    fraction = positions - torch.floor(positions)
    weights = [_kernel(torch.abs(fraction - offset) * stretch, options) for offset in offsets]
    if options.exclude_outside:
        base = torch.floor(positions)
        inside = [(base + offset >= 0) & (base + offset <= step.size - 1) for offset in offsets]
        weights = [weight * keep for weight, keep in zip(weights, inside, strict=True)]
    if options.exclude_outside or stretch < 1:
        total = torch.stack(weights).sum(0)
        weights = [weight / total for weight in weights]
    return offsets, weights


def _kernel(distance: Tensor, options: _Options) -> Tensor:
    if options.mode == "linear":
        return (1 - distance).clamp(min=0)
    a, x = options.cubic, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
