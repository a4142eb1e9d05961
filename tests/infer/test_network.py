"""Loading and running small networks: tables, arch files, state dicts, failures."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from services.infer.device import select_device
from services.infer.network import Network, load_network
from stagemesh.errors import ConfigError, InvalidInput, StageFailed
from stagemesh.repository import ModelFolder

MakeToy = Callable[..., Network]

TOY = """
import torch
from torch import nn

class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).relu().mean(dim=(2, 3))

def toy():
    torch.manual_seed(0)
    made = Toy()
    made.norm.running_mean.uniform_(-1, 1)
    made.norm.running_var.uniform_(0.5, 2)
    return made
"""


IMAGE = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)


@pytest.fixture
def load_toy(tmp_path: Path) -> MakeToy:
    """Load a network from Python code, with the state dict that it makes itself unless one is given."""

    def load(code: str = TOY, state: object = None, **keys: object) -> Network:
        path = tmp_path / "toy"
        path.mkdir(exist_ok=True)
        (path / "net.py").write_text(code)
        if state is None:
            scope: dict[str, Callable[[], torch.nn.Module]] = {}
            exec(code, scope)
            state = scope["toy"]().state_dict()
        torch.save(state, path / "net.pth")
        table = {"source": "net.pth", "arch": "file:net.py:toy", "outputs": ["out"], "size": [8, 8]}
        # a traced copy would not do what some of these networks do on purpose: print, raise, branch
        table |= {"backend": "eager"} | keys
        table = {key: value for key, value in table.items() if value is not None}
        folder = ModelFolder("toy", path, "custom", (), {"infer": table})
        return load_network(folder, table, select_device("cpu"), tmp_path / "cache")

    return load


def module_of(forward: str) -> str:
    """Code of a network without weights whose forward pass is the given lines."""
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    return (
        f"import torch\nclass Toy(torch.nn.Module):\n    def forward(self, x):\n{body}\ndef toy():\n    return Toy()\n"
    )


def test_outputs_are_those_of_the_plain_module(load_toy: MakeToy) -> None:
    network = load_toy(mean=[10, 20, 30], std=[2, 4, 8])
    scope: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(TOY, scope)
    values = (IMAGE.astype(np.float32) - [10, 20, 30]) / [2, 4, 8]
    with torch.inference_mode():
        expected = scope["toy"]().eval()(torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(network.run({"image": IMAGE}, {})["out"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_network_sees_its_layout_and_channel_order(load_toy: MakeToy, layout: str, channels: str) -> None:
    mean, std = [1.0, 2.0, 3.0], [3.0, 5.0, 7.0]
    network = load_toy(module_of("return x"), layout=layout, channels=channels, mean=mean, std=std)
    order = [0, 1, 2] if channels == "RGB" else [2, 1, 0]
    seen = (IMAGE[..., order].astype(np.float32) - np.array(mean, "f4")) / np.array(std, "f4")
    output = network.run({"image": IMAGE}, {})["out"]
    assert output.flags.c_contiguous
    np.testing.assert_array_equal(output, seen if layout == "NHWC" else seen.transpose(0, 3, 1, 2))


def test_without_a_size_any_size_is_taken(load_toy: MakeToy) -> None:
    network = load_toy(module_of("return x.mean(dim=(2, 3)), x"), outputs=["mean", "map"], size=None)
    assert network.signature().inputs[0].shape == (-1, -1, -1, 3)
    assert [spec.shape for spec in network.signature().outputs] == [(-1, 3), (-1, 3, -1, -1)]
    assert network.run({"image": IMAGE[:, :5, :7]}, {})["map"].shape == (3, 3, 5, 7)
    with pytest.raises(InvalidInput, match=r"got \[3, 0, 8, 3\]"):
        network.run({"image": IMAGE[:, :0]}, {})


def test_outputs_become_float32_and_may_hold_nan(load_toy: MakeToy) -> None:
    network = load_toy(module_of("return x.sum(dim=(1, 2, 3)).half() * float('nan')"))
    output = network.run({"image": IMAGE}, {})["out"]
    assert output.dtype == np.float32
    assert np.isnan(output).all()


def test_warm_up_runs_each_batch_size(load_toy: MakeToy, capsys: pytest.CaptureFixture[str]) -> None:
    network = load_toy(module_of("print('batch', len(x))\nreturn x"))
    capsys.readouterr()
    network.warm_up([1, 16])
    assert capsys.readouterr().out == "batch 1\nbatch 16\n"


def test_a_run_that_raises_fails_with_the_line(load_toy: MakeToy) -> None:
    network = load_toy(module_of("if len(x) == 3:\n    raise ValueError('three!')\nreturn x"))
    network.run({"image": IMAGE[:2]}, {})
    with pytest.raises(StageFailed, match=r"ValueError at net\.py:5: three!"):
        network.run({"image": IMAGE}, {})
    network.run({"image": IMAGE[:1]}, {})


def test_another_batch_than_asked_fails(load_toy: MakeToy) -> None:
    network = load_toy(module_of("return x[:2]"))
    with pytest.raises(StageFailed, match=r"expected 3 samples, got shape \[2, 3, 8, 8\]"):
        network.run({"image": IMAGE}, {})
    with pytest.raises(ConfigError, match=r"warm-up with a batch of 16: .*expected 16 samples"):
        network.warm_up([1, 16])


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("return x, x", r"expected 1 outputs of the network \(out\), got 2"),
        ("return x.mean()", r"expected 2 samples, got shape \[\]"),
        ("return 'text'", "AttributeError"),
        ("return None", "TypeError"),
        ("return x @ x[0, 0, :5]", "RuntimeError"),
    ],
)
def test_a_network_that_cannot_run_is_refused_at_load(load_toy: MakeToy, forward: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.toml \[infer\]: .*{message}"):
        load_toy(module_of(forward))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layuot": "NCHW"}, "unknown key 'layuot'"),
        ({"arch": None}, "key 'arch' is missing"),
        ({"layout": "CHW"}, "key 'layout': expected one of 'NCHW', 'NHWC', found 'CHW'"),
        ({"channels": "GBR"}, "key 'channels': expected one of"),
        ({"mean": [1.0]}, "key 'mean': expected a list of 3"),
        ({"std": [1.0, 0.0, 1.0]}, "key 'std': expected"),
        ({"size": [224, 0]}, "key 'size': expected"),
        ({"outputs": []}, "key 'outputs': expected one or more different names"),
        ({"outputs": ["a", "a"]}, "key 'outputs': expected one or more different names"),
        ({"sha256": "0" * 64}, "expected 0{64}, found"),
        ({"source": "../net.pth"}, "source '../net.pth'"),
        ({"arch": "net.py"}, "expected 'file:module.py:name'"),
        ({"arch": "file:../net.py:toy"}, "expected a file inside"),
        ({"arch": "file:net.py:other"}, "expected 'other' in net.py"),
        ({"arch": "file:net.py:torch"}, "expected a function 'file:net.py:torch', found module"),
        ({"arch": "file:net.py:dict"}, "expected 'dict' in net.py"),
    ],
)
def test_a_bad_table_names_key_expected_and_found(load_toy: MakeToy, keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.toml \[infer\]: .*{message}"):
        load_toy(**keys)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import torch\n\n1 / 0\n", "ZeroDivisionError.*line 3"),
        ("def toy(:\n", "SyntaxError.*line 1"),
        ("def toy():\n    return missing\n", r"NameError at net\.py:2"),
        ("def toy():\n    return 3\n", "expected a torch.nn.Module of 'file:net.py:toy', found int"),
    ],
)
def test_a_bad_arch_file_is_named_with_its_line(load_toy: MakeToy, code: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_toy(code, state={})


def test_keys_that_do_not_fit_are_listed(load_toy: MakeToy) -> None:
    state = {"conv.weight": torch.zeros(4, 3, 1, 1), "head.weight": torch.zeros(1)}
    with pytest.raises(ConfigError) as caught:
        load_toy(state=state)
    text = str(caught.value)
    assert "expected 6 keys, found 2" in text
    assert "5 missing: norm.weight, norm.bias, norm.running_mean" in text
    assert "1 unexpected: head.weight" in text
    assert "conv.weight (expected [4, 3, 3, 3], found [4, 3, 1, 1])" in text


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.proof), "w")


def test_nothing_but_tensors_is_unpickled(load_toy: MakeToy, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    with pytest.raises(ConfigError, match=r"expected a torch state dict in net\.pth"):
        load_toy(state={"conv.weight": Trap(proof)})
    assert not proof.exists()


@pytest.mark.parametrize("state", [[torch.zeros(1)], {"conv.weight": 3}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(load_toy: MakeToy, state: object) -> None:
    with pytest.raises(ConfigError, match="expected a state dict of tensors"):
        load_toy(state=state)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", pickle.dumps({"a": 1}, protocol=2)[:-3], b"PK\x03\x04" + bytes(40)],
    ids=["empty", "text", "cut pickle", "cut archive"],
)
def test_a_corrupt_file_is_refused(load_toy: MakeToy, tmp_path: Path, content: bytes) -> None:
    load_toy()
    (tmp_path / "toy" / "broken.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=r"expected a .*state dict.* in broken\.pth"):
        load_toy(source="broken.pth")


def test_batch_norm_is_folded(load_toy: MakeToy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_toy()
    assert "unfolded" not in caplog.text


@pytest.mark.parametrize(
    ("condition", "reason"), [("x.sum() > 0", "TraceError"), ("isinstance(x, torch.Tensor)", "change the outputs")]
)
def test_a_network_that_tracing_would_change_runs_as_it_is(
    load_toy: MakeToy, caplog: pytest.LogCaptureFixture, condition: str, reason: str
) -> None:
    code = TOY.replace("return self", f"x = x * 2 if {condition} else x * 3\n        return self")
    with caplog.at_level(logging.INFO):
        network = load_toy(code)
    assert "unfolded" in caplog.text
    assert reason in caplog.text
    doubled = load_toy(TOY.replace("return self", "x = x * 2\n        return self"))
    np.testing.assert_allclose(
        network.run({"image": IMAGE}, {})["out"], doubled.run({"image": IMAGE}, {})["out"], rtol=1e-4
    )
