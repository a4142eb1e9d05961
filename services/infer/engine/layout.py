"""Layout clean-up: transposes move down the graph until they meet their inverse, and both go.

A graph that came from channels-last code has a transpose before and after every convolution. What lies between
two convolutions, activations, sums, padding, joins, does not care about the order of axes, or can be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.infer.engine.graph import RuntimeGraph, RuntimeNode

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
    sinking.settle([info.name for info in graph.outputs])
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
        if self._is_transpose(node):
            source, order = self._pending.get(node.inputs[0], (node.inputs[0], None))
            own = node.integers("perm")
            assert own is not None  # _is_transpose looked
            self._pending[node.outputs[0]] = (source, own if order is None else tuple(order[axis] for axis in own))
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
            self.nodes.append(
                RuntimeNode(name, "Transpose", (source,), (name,), {"perm": order}, version=self._version)
            )

    def _name(self, name: str) -> str:
        source, order = self._pending.get(name, (name, None))
        return source if order == tuple(range(len(order or ()))) else name

    @staticmethod
    def _is_transpose(node: RuntimeNode) -> bool:
        return node.op_type == "Transpose" and not node.domain and bool(node.integers("perm"))

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
        if node.op_type == "Pad" and node.version >= 11 and node.inputs[0] in self._pending:
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
        if any(name not in self._pending for name in data):
            return None
        inputs = [self._pending[name][0] for name in data] + list(node.inputs[len(data) :])
        return replace(node, inputs=tuple(inputs), attributes={**node.attributes, "axis": order[axis]})

    def _padded(self, node: RuntimeNode, order: Order) -> RuntimeNode | None:
        pads = self.constants.get(node.inputs[1])
        if pads is None or pads.numel() != 2 * len(order) or len(node.inputs) > 3:
            return None
        inverse = [order.index(axis) for axis in range(len(order))]
        name = f"{node.outputs[0]}^pads"
        self.constants[name] = pads.reshape(2, -1)[:, inverse].reshape(-1)
        return node.reading((self._pending[node.inputs[0]][0], name, *node.inputs[2:]))
