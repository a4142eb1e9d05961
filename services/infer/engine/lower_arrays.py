"""TensorFlow's operations that move values: shapes, slices, indices."""

from __future__ import annotations

import torch

from services.infer.engine.lowering import Lowerings, as_int64, known_numbers, onnx_code
from services.infer.engine.tfjs_node import TfNode
from services.infer.engine.writer import GraphWriter
from stagemesh.errors import ConfigError

lowerings = Lowerings()

END = (1 << 63) - 1


@lowerings.of("Reshape")
def reshape(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Reshape", [node.input(0), as_int64(writer, node.input(1))], node.name, allowzero=1)


@lowerings.of("Transpose")
def transpose(node: TfNode, writer: GraphWriter) -> None:
    order = tuple(known_numbers(node, writer, 1, "the permutation"))
    writer.add("Transpose", [node.input(0)], node.name, perm=order)


@lowerings.of("ConcatV2", "Concat")
def concat(node: TfNode, writer: GraphWriter) -> None:
    at = -1 if node.op == "ConcatV2" else 0
    (axis,) = known_numbers(node, writer, at, "the axis")
    parts = node.inputs[:-1] if node.op == "ConcatV2" else node.inputs[1:]
    writer.add("Concat", parts, node.name, axis=axis)


@lowerings.of("ExpandDims")
def expand_dims(node: TfNode, writer: GraphWriter) -> None:
    axes = writer.constant(known_numbers(node, writer, 1, "the axis"))
    writer.add("Unsqueeze", [node.input(0), axes], node.name)


@lowerings.of("Squeeze")
def squeeze(node: TfNode, writer: GraphWriter) -> None:
    axes = node.integers("squeeze_dims") or node.integers("axis")
    writer.add("Squeeze", [node.input(0), *([writer.constant(axes)] if axes else [])], node.name)


@lowerings.of("Pack")
def pack(node: TfNode, writer: GraphWriter) -> None:
    axis = node.integer("axis", 0)
    axes = writer.constant([axis])
    parts = [writer.add("Unsqueeze", [name, axes]) for name in node.inputs]
    writer.add("Concat", parts, node.name, axis=axis)


@lowerings.of("Unpack")
def unpack(node: TfNode, writer: GraphWriter) -> None:
    axis, count = node.integer("axis", 0), node.integer("num", 1)
    _check_count(node, count)
    axes, sizes = writer.constant([axis]), writer.constant([1] * count)
    parts = writer.add_many("Split", [node.input(0), sizes], [writer.fresh() for _ in range(count)], axis=axis)
    for part, output in zip(parts, outputs_of(node, count), strict=True):
        writer.add("Squeeze", [part, axes], output)


@lowerings.of("Split")
def split(node: TfNode, writer: GraphWriter) -> None:
    (axis,) = known_numbers(node, writer, 0, "the axis")
    count = node.integer("num_split", 1)
    _check_count(node, count)
    writer.add_many("Split", [node.input(1)], outputs_of(node, count), axis=axis, num_outputs=count)


@lowerings.of("SplitV")
def split_by_sizes(node: TfNode, writer: GraphWriter) -> None:
    sizes = known_numbers(node, writer, 1, "the sizes")
    (axis,) = known_numbers(node, writer, 2, "the axis")
    if -1 not in sizes:
        writer.add_many("Split", [node.input(0), writer.constant(sizes)], outputs_of(node, len(sizes)), axis=axis)
        return
    start, free = 0, sizes.index(-1)
    for index, output in enumerate(outputs_of(node, len(sizes))):
        if index == free:
            start = -sum(sizes[index + 1 :])
            spans = (sum(sizes[:index]), start or END)
        else:
            spans = (start, start + sizes[index] or END)
            start += sizes[index]
        _slice(writer, node.input(0), [spans[0]], [spans[1]], [axis], [1], output)


def outputs_of(node: TfNode, count: int) -> list[str]:
    """The names of a node's outputs: its own, then with their number."""
    return [node.name, *(f"{node.name}:{index}" for index in range(1, count))]


def _check_count(node: TfNode, count: int) -> None:
    if not 1 <= count <= 65_536:
        raise ConfigError(f"{node}: expected 1 to 65536 parts, found {count}")


@lowerings.of("GatherV2", "Gather")
def gather(node: TfNode, writer: GraphWriter) -> None:
    if node.integer("batch_dims", 0):
        raise ConfigError(f"{node}: attribute 'batch_dims': expected 0, found {node.integer('batch_dims', 0)}")
    axis = known_numbers(node, writer, 2, "the axis")[0] if len(node.inputs) > 2 else 0
    writer.add("Gather", [node.input(0), node.input(1)], node.name, axis=axis)


@lowerings.of("GatherNd")
def gather_nd(node: TfNode, writer: GraphWriter) -> None:
    writer.add("GatherND", [node.input(0), as_int64(writer, node.input(1))], node.name)


@lowerings.of("SparseToDense")
def sparse_to_dense(node: TfNode, writer: GraphWriter) -> None:
    indices, shape, values, default = node.inputs[:4]
    dense = writer.add("Expand", [default, as_int64(writer, shape)])
    known = writer.constants.get(indices)
    if known is None:
        raise ConfigError(f"{node}: expected constant indices, found '{indices}', which is computed")
    if known.ndim < 2:  # positions in a vector
        indices = writer.add("Reshape", [indices, writer.constant([-1, 1])])
    values = writer.add("Expand", [values, writer.constant([known.shape[0] if known.ndim else 1])])
    writer.add("ScatterND", [dense, as_int64(writer, indices), values], node.name)


@lowerings.of("Pad", "PadV2", "MirrorPad")
def pad(node: TfNode, writer: GraphWriter) -> None:
    by_side = writer.add("Transpose", [as_int64(writer, node.input(1))], perm=(1, 0))
    pads = writer.add("Reshape", [by_side, writer.constant([-1])])
    mode = node.text("mode", "REFLECT") if node.op == "MirrorPad" else "CONSTANT"
    if mode not in ("CONSTANT", "REFLECT"):
        raise ConfigError(f"{node}: attribute 'mode': expected REFLECT, found {mode!r}")
    value = [node.input(2)] if node.op == "PadV2" else []
    writer.add("Pad", [node.input(0), pads, *value], node.name, mode=mode.lower())


@lowerings.of("Slice")
def slice_by_size(node: TfNode, writer: GraphWriter) -> None:
    starts = known_numbers(node, writer, 1, "the begin")
    sizes = known_numbers(node, writer, 2, "the size")
    ends = [END if size == -1 else start + size for start, size in zip(starts, sizes, strict=True)]
    _slice(writer, node.input(0), starts, ends, list(range(len(starts))), [1] * len(starts), node.name)


@lowerings.of("StridedSlice")
def strided_slice(node: TfNode, writer: GraphWriter) -> None:
    if node.integer("ellipsis_mask", 0):
        raise ConfigError(f"{node}: attribute 'ellipsis_mask': expected 0, found {node.integer('ellipsis_mask', 0)}")
    spans, shrunk, added = _strided_spans(node, writer)
    starts, ends, steps = ([span[part] for span in spans] for part in range(3))
    name = node.input(0)
    if spans:
        name = _slice(writer, name, starts, ends, list(range(len(spans))), steps)
    if shrunk:
        name = writer.add("Squeeze", [name, writer.constant(shrunk)])
    if added:
        name = writer.add("Unsqueeze", [name, writer.constant(added)])
    writer.add("Identity", [name], node.name)


def _strided_spans(node: TfNode, writer: GraphWriter) -> tuple[list[tuple[int, int, int]], list[int], list[int]]:
    """Start, end and step for each axis of the input; the axes that vanish; where new ones appear after that."""
    begins, ends, steps = (known_numbers(node, writer, index, "begin, end and strides") for index in (1, 2, 3))
    masks = {kind: node.integer(f"{kind}_mask", 0) for kind in ("begin", "end", "shrink_axis", "new_axis")}
    spans: list[tuple[int, int, int]] = []
    shrunk: list[int] = []
    added: list[int] = []
    for index, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << index
        if masks["new_axis"] & bit:
            added.append(len(spans) - len(shrunk) + len(added))
        elif masks["shrink_axis"] & bit:
            shrunk.append(len(spans))
            spans.append((begin, begin + 1 or END, 1))
        else:
            first = (0 if step > 0 else END) if masks["begin"] & bit else begin
            last = (END if step > 0 else -END) if masks["end"] & bit else end
            spans.append((first, last, step))
    return spans, shrunk, added


def _slice(
    writer: GraphWriter,
    name: str,
    starts: list[int],
    ends: list[int],
    axes: list[int],
    steps: list[int],
    output: str = "",
) -> str:
    return writer.add("Slice", [name, *(writer.constant(part) for part in (starts, ends, axes, steps))], output)


@lowerings.of("Shape")
def shape(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Cast", [writer.add("Shape", [node.input(0)])], node.name, to=onnx_code(torch.int32))


@lowerings.of("Fill")
def fill(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Expand", [node.input(1), as_int64(writer, node.input(0))], node.name)


@lowerings.of("BroadcastTo")
def broadcast_to(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Expand", [node.input(0), as_int64(writer, node.input(1))], node.name)


@lowerings.of("ZerosLike", "OnesLike")
def filled_like(node: TfNode, writer: GraphWriter) -> None:
    value = torch.full((1,), int(node.op == "OnesLike"), dtype=node.dtype("T"))
    writer.add("ConstantOfShape", [writer.add("Shape", [node.input(0)])], node.name, value=value)


@lowerings.of("Tile")
def tile(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Tile", [node.input(0), as_int64(writer, node.input(1))], node.name)


@lowerings.of("Range")
def range_of(node: TfNode, writer: GraphWriter) -> None:
    writer.add("Range", node.inputs, node.name)


@lowerings.of("OneHot")
def one_hot(node: TfNode, writer: GraphWriter) -> None:
    off, on = (writer.add("Reshape", [node.input(index), writer.constant([1])]) for index in (3, 2))
    values = writer.add("Concat", [off, on], axis=0)
    writer.add("OneHot", [node.input(0), node.input(1), values], node.name, axis=node.integer("axis", -1))
