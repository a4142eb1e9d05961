"""Layout clean-up: transposes move down the graph until they meet their inverse, and both go.

A graph that came from channels-last code has a transpose before and after every convolution. What lies between
two convolutions, activations, sums, padding, joins, does not care about the order of axes, or can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.infer.engine.graph import Attribute, RuntimeGraph, RuntimeNode

Order = tuple[int, ...]

# fmt: off
_POINTWISE = frozenset((
    "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh",
))
# fmt: on
_BY_AXIS = ("Concat", "Softmax", "LogSoftmax", "Split")


def sink_transposes(graph: RuntimeGraph) -> RuntimeGraph:
    """A graph whose Transpose nodes are merged with those they reach."""
    sinking = _Sinking(graph)
    for node in graph.nodes:
        sinking.take(node)
    for info in graph.outputs:
        sinking.finish(info.name)
    return graph.holding(sinking.nodes, sinking.constants)


class _Sinking:
    """Tensors that are some other tensor in another order of axes are `pending` until somebody needs them."""

    def __init__(self, graph: RuntimeGraph) -> None:
        self.nodes: list[RuntimeNode] = []
        self.constants = dict(graph.constants)
        self._pending: dict[str, tuple[str, Order]] = {}
        self._made: set[str] = set()
        self._version = max((node.version for node in graph.nodes if not node.domain), default=18)

    def take(self, node: RuntimeNode) -> None:
        own = _permutation(node)
        source, order = self._pending.get(node.inputs[0], (node.inputs[0], own)) if own else ("", None)
        if own and order and len(order) == len(own):
            composed = own if source == node.inputs[0] else tuple(order[axis] for axis in own)
            self._pending[node.outputs[0]] = (source, composed)
        elif not self._sink(node):
            self.settle(node.inputs)
            self.nodes.append(node.reading([self._name(name) for name in node.inputs]))

    def settle(self, names: Sequence[str]) -> None:
        """Write the transposes that make `names`, where they have not been written."""
        for name in names:
            if name not in self._pending or name in self._made or self._name(name) != name:
                continue
            source, order = self._pending[name]
            self._made.add(name)
            self._write("Transpose", source, name, {"perm": order})

    def finish(self, name: str) -> None:
        """Write what makes the output `name` of the graph."""
        self.settle([name])
        if self._name(name) != name:
            self._write("Identity", self._name(name), name, {})

    def _write(self, op_type: str, source: str, name: str, attributes: dict[str, Attribute]) -> None:
        self.nodes.append(RuntimeNode(name, op_type, (source,), (name,), attributes, version=self._version))

    def _name(self, name: str) -> str:
        source, order = self._pending.get(name, (name, None))
        return source if order == tuple(range(len(order or ()))) else name

    def _sink(self, node: RuntimeNode) -> bool:
        """Whether `node` could be written on the tensors before their transposes, its outputs now pending."""
        orders = {self._pending[name][1] for name in node.inputs if name in self._pending}
        if node.domain or len(orders) != 1:
            return False
        (order,) = orders
        rewritten = self._rewritten(node, order)
        if rewritten is None:
            return False
        fresh = tuple(f"{name}^" for name in node.outputs)
        self.nodes.append(replace(rewritten, outputs=fresh))
        self._pending.update({old: (new, order) for old, new in zip(node.outputs, fresh, strict=True)})
        return True

    def _rewritten(self, node: RuntimeNode, order: Order) -> RuntimeNode | None:
        if node.op_type in _POINTWISE:
            inputs = [self._before(name, order) for name in node.inputs]
            return None if None in inputs else node.reading([name for name in inputs if name is not None])
        if node.op_type in _BY_AXIS:
            return self._along_axis(node, order)
        if node.op_type == "Pad" and node.version >= 11 and len(node.inputs) in (2, 3):
            return self._padded(node, order)
        return None

    def _before(self, name: str, order: Order) -> str | None:
        """The tensor that gives `name` when its axes are put in `order`; None for one that is computed elsewhere."""
        if name == "":
            return name
        if name in self._pending:
            return self._pending[name][0]
        tensor = self.constants.get(name)
        if tensor is None or tensor.ndim > len(order):
            return None
        if tensor.numel() == 1 and tensor.ndim <= 1:
            return name
        whole = tensor.reshape((1,) * (len(order) - tensor.ndim) + tuple(tensor.shape))
        inverse = tuple(order.index(axis) for axis in range(len(order)))
        turned = f"{name}^{''.join(map(str, inverse))}"
        self.constants[turned] = whole.permute(inverse).contiguous()
        return turned

    def _along_axis(self, node: RuntimeNode, order: Order) -> RuntimeNode | None:
        if node.op_type in ("Softmax", "LogSoftmax") and node.version < 13:
            return None
        axis = node.integer("axis", {"Concat": 1, "Split": 0}.get(node.op_type, -1))
        data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        if not data or any(name not in self._pending for name in data) or not -len(order) <= axis < len(order):
            return None
        inputs = [self._pending[name][0] for name in data] + list(node.inputs[len(data) :])
        return replace(node, inputs=tuple(inputs), attributes={**node.attributes, "axis": order[axis]})

    def _padded(self, node: RuntimeNode, order: Order) -> RuntimeNode | None:
        pads = self.constants.get(node.inputs[1])
        if pads is None or pads.numel() != 2 * len(order) or node.inputs[0] not in self._pending:
            return None
        inverse = [order.index(axis) for axis in range(len(order))]
        name = f"{node.outputs[0]}^pads"
        self.constants[name] = pads.reshape(2, -1)[:, inverse].reshape(-1)
        return node.reading((self._pending[node.inputs[0]][0], name, *node.inputs[2:]))


def _permutation(node: RuntimeNode) -> Order | None:
    """The order of axes of a Transpose that has a valid one, None for any other node."""
    if node.op_type != "Transpose" or node.domain or len(node.inputs) != 1 or len(node.outputs) != 1:
        return None
    order = node.integers("perm")
    return order if order and sorted(order) == list(range(len(order))) else None
