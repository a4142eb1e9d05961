"""Operators by domain and opset, those of users included, and what happens when one fails."""

from __future__ import annotations

import weakref
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from services.infer.engine.graph import RuntimeGraph, RuntimeNode, TensorInfo
from services.infer.engine.module import GraphModule
from services.infer.engine.operators import registry_of, standard_registry
from services.infer.engine.registry import OperatorRegistry
from stagemesh.errors import ConfigError, StageFailed

X = torch.tensor([-1.0, 2.0])


def single(op_type: str, domain: str = "", version: int = 18, outputs: tuple[str, ...] = ("y",)) -> RuntimeGraph:
    node = RuntimeNode("n", op_type, ("x",), outputs, {}, domain, version)
    info = [TensorInfo(name, torch.float32, (2,)) for name in ("x", outputs[-1])]
    return RuntimeGraph("net", (info[0],), (info[1],), [node], {})


def test_the_opset_chooses() -> None:
    registry = OperatorRegistry()
    registry.register("Twist", domain="mine", until=3)(lambda call: call.tensor(0) + 1)
    registry.register("Twist", domain="mine", since=4)(lambda call: call.tensor(0) + 2)
    for version, more in ((1, 1), (3, 1), (4, 2), (99, 2)):
        (found,) = GraphModule(single("Twist", "mine", version), registry)(X)
        assert found.tolist() == (X + more).tolist()


def test_what_is_included_later_goes_first() -> None:
    registry, own = standard_registry(), OperatorRegistry()
    own.register("Relu")(lambda call: call.tensor(0) * 0)
    registry.include(own)
    assert GraphModule(single("Relu"), registry)(X)[0].tolist() == [0, 0]
    assert GraphModule(single("Relu"), standard_registry())(X)[0].tolist() == [0, 2]


def test_operators_of_a_models_own_file(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "from services.infer.engine.registry import OperatorRegistry\n"
        "operators = OperatorRegistry()\n"
        "nothing = 5\n"
        "@operators.register('Double', domain='com.example')\n"
        "def double(call):\n"
        "    return call.tensor(0) * 2\n"
    )
    registry = registry_of("file:ops.py:operators", tmp_path, "model.toml [infer]")
    assert GraphModule(single("Double", "com.example"), registry)(X)[0].tolist() == [-2, 4]
    with pytest.raises(ConfigError, match=r"model\.toml \[infer\].*expected an OperatorRegistry, found int"):
        registry_of("file:ops.py:nothing", tmp_path, "model.toml [infer]")
    with pytest.raises(ConfigError, match=r"model\.toml \[infer\]"):
        registry_of("file:../ops.py:operators", tmp_path / "inner", "model.toml [infer]")


def test_an_operator_that_fails_is_named() -> None:
    registry = OperatorRegistry()

    @registry.register("Bad")
    def bad(call: object) -> torch.Tensor:
        raise KeyError("oops")

    with pytest.raises(StageFailed, match=r"node 'n' \(Bad\) with inputs torch\.float32 \[2\]: KeyError: 'oops'"):
        GraphModule(single("Bad"), registry)(X)
    registry.register("Few")(lambda call: call.tensor(0))
    with pytest.raises(StageFailed, match=r"node 'n' \(Few\): expected 2 outputs, got 1"):
        GraphModule(single("Few", outputs=("y", "z")), registry)(X)
    with pytest.raises(StageFailed, match="expected 1 inputs, got 2"):
        GraphModule(single("Relu"), standard_registry())(X, X)


def test_tensors_are_let_go_after_their_last_use() -> None:
    alive: list[int] = []
    registry = OperatorRegistry()

    @registry.register("Grow")
    def grow(call: object) -> torch.Tensor:
        block = torch.ones(1000)
        blocks.append(weakref.ref(block))
        alive.append(sum(ref() is not None for ref in blocks))
        return block

    blocks: list[weakref.ref[torch.Tensor]] = []
    names = ["x", *(f"t{index}" for index in range(20))]
    nodes = [RuntimeNode(b, "Grow", (a,), (b,)) for a, b in pairwise(names)]
    info = [TensorInfo(name, torch.float32, (2,)) for name in ("x", names[-1])]
    GraphModule(RuntimeGraph("net", (info[0],), (info[1],), nodes, {}), registry)(X)
    assert max(alive) == 2
