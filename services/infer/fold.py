"""Batch normalisation folded into the convolution before it: fewer passes over memory, the same network."""

from __future__ import annotations

from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, without the batch normalisations that follow a convolution.

    Raises what tracing raises where the network's Python cannot be traced; compare the outputs before use,
    since tracing keeps only one way of a branch.
    """
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
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a subclass of Conv2d, with a padding of its own say, folds like a plain one
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)
