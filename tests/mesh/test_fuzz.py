"""Thousands of mutated requests against each stage: refused or served, never a failure of the server."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import repeat

import grpc.aio
import numpy as np
import pytest
from PIL import Image

from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.service import OipStub
from stagemesh.oip.tensors import Parameter, Tensor
from tests.mesh.mutations import mutated
from tests.mesh.processes import Mesh, ServiceProcess, running, running_mesh
from tests.mesh.repositories import add_model

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(240)]

MUTANTS = 10_000
MUTANTS_OF_A_HEAD = 2_000
SIDE_BY_SIDE = 16
SEED = int(os.environ.get("FUZZ_SEED", "20240229"))
ANSWERS = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "UNIMPLEMENTED",
    "DEADLINE_EXCEEDED",
}
"""DEADLINE_EXCEEDED is a mutated `timeout`."""
NO_HOP = "has no address here"
"""What UNAVAILABLE must say: a mutated route asks for a stage that this one was not told of."""
HEADS = {
    "detect": 'plugin = "detect"\nhead = "yolov5"',
    "detect_maps": 'plugin = "detect"\nhead = "centerface"',
    "detect_ids": 'plugin = "detect"\nhead = "decoded"\nclass_id_type = "INT64"',
    "segment": 'plugin = "segment"\nhead = "foreground"\nactivation = "minmax"',
    "segment_classes": 'plugin = "segment"\nhead = "semantic"',
    "pose": 'plugin = "pose"\nhead = "decoded"',
    "pose_maps": 'plugin = "pose"\nhead = "heatmap"',
}
"""Keys of [postprocess] of a model each."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh with the real plug-ins around a quick network."""
    models = tmp_path_factory.mktemp("models")
    add_model(models, "blocks", size=[32, 32])
    with running_mesh(models=models) as running:
        yield running


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A postprocess stage, alone, with the models HEADS."""
    models = tmp_path_factory.mktemp("models")
    for name, keys in HEADS.items():
        (models / name).mkdir()
        (models / name / "model.toml").write_text(f'[model]\ntask = "custom"\n\n[postprocess]\n{keys}\n')
    service = ServiceProcess("postprocess", models=models)
    with running(service):
        yield service


def photo(form: str, **options: object) -> bytes:
    """A small photo of one noise, encoded in some form."""
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def request(parameters: dict[str, Parameter] | None = None, model: str = "blocks", **inputs: np.ndarray) -> bytes:
    tensors = {name.replace("__", "."): Tensor.from_numpy(array) for name, array in inputs.items()}
    return InferRequest(model, tensors, parameters=parameters or {}).encode()


def photo_seeds(route: str = "") -> list[bytes]:
    """Requests with a photo of each form that preprocess decodes."""
    photos = [photo("png"), photo("jpeg"), photo("webp"), photo("bmp"), photo("jpeg", progressive=True)]
    routed: list[dict[str, Parameter]] = [{}, {"top_k": 3}, *([{"stagemesh_route": route}] if route else [])]
    return [request(parameters, image=np.array([data], dtype=object)) for data in photos for parameters in routed]


def seeds(stage: str) -> list[bytes]:
    """Requests that `stage` serves; the first is the one it is asked again at the end."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    meta = {"meta__size": np.ones((2, 2), np.int32), "meta__transform": np.ones((2, 6), np.float32)}
    logits = np.linspace(-3, 3, 32, dtype=np.float32).reshape(2, 16)
    match stage:
        case "gateway":
            return photo_seeds()
        case "preprocess":
            return photo_seeds("infer,postprocess")
        case "infer":
            plain = request(image=pixels)
            return [plain, request(image=pixels, **meta), request({"stagemesh_route": "postprocess"}, image=pixels)]
    return [request(logits=logits), request({"top_k": 2}, logits=logits, **meta)]


def head_seeds(model: str) -> list[bytes]:
    """Requests that a model of HEADS serves, the last one with a request parameter."""
    random = np.random.default_rng(0).random

    def noise(*shape: int) -> np.ndarray:
        return random((2, *shape), np.float32)

    inputs = {
        "detect": {"predictions": 30 * noise(40, 8)},
        "detect_maps": {n: noise(k, 6, 5) for n, k in (("heat", 1), ("scale", 2), ("offset", 2), ("points", 10))},
        "detect_ids": {"boxes": 30 * noise(9, 4), "scores": noise(9), "class_ids": np.ones((2, 9), np.int64)},
        "segment": {"mask": noise(1, 8, 8)},
        "segment_classes": {"logits": noise(3, 8, 8)},
        "pose": {"keypoints": 30 * noise(2, 5, 3)},
        "pose_maps": {"heatmaps": noise(5, 6, 4)},
    }[model]
    meta = {
        "meta__size": np.array([[24, 20], [30, 40]], np.int32),
        "meta__transform": np.array([[1, 0, 0, 0, 1, 0], [1.5, 0, 2, 0, 0.5, 1]], np.float32),
    }
    return [request(parameters, model, **inputs, **meta) for parameters in ({}, {"score_threshold": 0.6})]


async def fuzz(target: str, requests: list[bytes]) -> tuple[Counter[str], list[str]]:
    """Send all requests, some side by side: how many ended how, and what should not have happened."""
    statuses: Counter[str] = Counter()
    wrong: list[str] = []
    numbered = iter(enumerate(requests))
    async with grpc.aio.insecure_channel(target, [("grpc.enable_retries", 0)]) as channel:
        stub = OipStub(channel)

        async def send(_: None) -> None:
            for number, data in numbered:
                try:
                    await stub.ModelInfer(data, timeout=30)
                    status, details = "OK", ""
                except grpc.aio.AioRpcError as error:
                    status, details = error.code().name, error.details() or ""
                statuses[status] += 1
                if status not in ANSWERS and not (status == "UNAVAILABLE" and NO_HOP in details):
                    wrong.append(f"request {number}: {status} {details}")

        await asyncio.gather(*map(send, repeat(None, SIDE_BY_SIDE)))
    return statuses, wrong


async def answer(service: ServiceProcess, data: bytes) -> dict[str, object]:
    """The outputs that a service answers to a good request."""
    async with grpc.aio.insecure_channel(service.target) as channel:
        outputs = InferResponse.decode(await OipStub(channel).ModelInfer(data, timeout=30)).outputs
    return {name: tensor.numpy().tolist() for name, tensor in outputs.items()}


async def survives(service: ServiceProcess, valid: list[bytes], count: int) -> None:
    """Send `count` mutants of requests to a service, which answers all of them and goes on as before."""
    right = [await answer(service, data) for data in valid]
    rng = random.Random(SEED)
    mutants = [mutated(rng, rng.choice(valid)) for _ in range(count)]
    statuses, wrong = await fuzz(service.target, mutants)
    print(f"{service.stage}: {dict(statuses)}")
    assert not wrong, f"FUZZ_SEED={SEED}: {len(wrong)} of {count}:\n" + "\n".join(wrong[:10])
    assert service.process.poll() is None
    assert [await answer(service, data) for data in valid] == right
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("stage", ["preprocess", "infer", "postprocess", "gateway"])
async def test_mutated_requests(mesh: Mesh, stage: str) -> None:
    service = mesh.infer[0] if stage == "infer" else getattr(mesh, stage)
    await survives(service, seeds(stage), MUTANTS)


@pytest.mark.parametrize("model", HEADS)
async def test_mutated_outputs_of_networks(heads: ServiceProcess, model: str) -> None:
    await survives(heads, head_seeds(model), MUTANTS_OF_A_HEAD)
