"""Model repositories of the tests: copies of the folders in `models`, changed where a test needs it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

TEMPLATES = Path(__file__).with_name("models")
MAGIC = 77
POISON = 13


def add_model(repository: Path, template: str, name: str = "", **keys: object) -> Path:
    """Copy a template as model `name`; `keys` replace the values of those keys in every table that has them."""
    folder = repository / (name or template)
    shutil.copytree(TEMPLATES / template, folder, ignore=shutil.ignore_patterns("__pycache__"))
    torch.save({}, folder / "weights.pth")
    toml = folder / "model.toml"
    text = toml.read_text()
    for key, value in keys.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count, f"{toml} has no key {key}"
    toml.write_text(text)
    return folder


def edit_model(folder: Path, old: str, new: str, file: str = "model.toml") -> None:
    """Replace `old` in a file of a model's folder."""
    text = (folder / file).read_text()
    assert old in text, f"{folder / file} has no {old}"
    (folder / file).write_text(text.replace(old, new))


def sleep_in_net(folder: Path, seconds: float) -> None:
    """Let each batch of a copy of `blocks` take `seconds` longer."""
    net = folder / "net.py"
    net.write_text(net.read_text().replace("BATCH_S = 0.0", f"BATCH_S = {seconds}"))


def blocks_photo(index: int) -> tuple[bytes, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """A photo for the model `blocks`, as PNG, with the class ids and scores that are its right answer."""
    pixels = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    logits = pixels.sum(axis=2).reshape(16) / 64
    class_ids = np.argsort(-logits, kind="stable")
    powers = np.exp(logits - logits.max())
    return file.getvalue(), class_ids, (powers / powers.sum())[class_ids]


def puppet_image(number: int, *, infer_ms: int = 0, poison: bool = False) -> dict[str, npt.NDArray[np.uint8]]:
    """The inputs of one request to `puppet`: its number, and what infer shall do, in steps of 10 ms."""
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 0] = number, infer_ms // 10, POISON if poison else 0
    image[0, 1, 1] = MAGIC
    return {"image": image}


def computed(folder: Path, stage: str) -> list[int]:
    """The numbers of the requests that `stage` of a `puppet` has computed, in that order."""
    return [number for batch in computed_batches(folder, stage) for number in batch]


def computed_batches(folder: Path, stage: str) -> Sequence[list[int]]:
    """The same, batch by batch."""
    log = folder / "computed.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [[int(number) for number in line.split()[1:]] for line in lines if line.startswith(stage)]
