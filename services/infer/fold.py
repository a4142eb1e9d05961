"""Batch normalisation folded into the convolution before it: fewer passes over memory, the same network."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_tracing = threading.Lock()
"""Tracing replaces methods of nn.Module for the whole process while it runs."""


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, without the batch normalisations that follow a convolution.

    Raises what tracing raises where the network's Python cannot be traced; compare the outputs before use,
    since tracing keeps only one way of a branch.
    """
    with _tracing:
        graph = _ConvTracer().trace(network)
    traced = fx.GraphModule(network, graph)
    modules = dict(traced.named_modules())
    uses = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    for node in list(graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        conv, norm = modules[str(source.target)], modules[str(node.target)]
        shared = uses[str(source.target)] > 1
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and not shared:
            traced.set_submodule(str(source.target), fuse_conv_bn_eval(conv, norm))
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


class _ConvTracer(fx.Tracer):
    """Leaves alone what other threads run meanwhile: the networks that are being served."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a subclass of Conv2d, with a padding of its own say, folds like a plain one
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)
