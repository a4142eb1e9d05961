"""Clients that others wrote, unmodified, get from the gateway and from each stage what our own client gets."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from stagemesh import Client
from stagemesh.client import InferResult
from stagemesh.oip import open_inference_pb2 as pb
from stagemesh.oip.service import OipStub
from tests.mesh.processes import ROOT, Mesh, ServiceProcess
from tests.mesh.wire import infer, labels, photos, request, tensor

pytestmark = pytest.mark.xdist_group("mesh")

COFFEE = ROOT / "examples" / "photos" / "coffee.png"
PHOTO = COFFEE.read_bytes()
TOP_5 = ("labels", "scores", "class_ids")


@pytest.fixture(scope="module")
def expected(mesh: Mesh) -> InferResult:
    """The top 5 of the photo by our own client."""
    with Client(mesh.target) as client:
        return client.infer_image("classify", COFFEE)


@pytest.fixture
def client(mesh: Mesh) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(mesh.target) as client:
        yield client


def triton_input(name: str, array: npt.NDArray[np.generic], datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def image(*photos: bytes) -> list[triton.InferInput]:
    return [triton_input("image", np.array(photos, dtype=object), "BYTES")]


def assert_top_5(result: triton.InferResult, expected: InferResult) -> None:
    assert expected["labels"][0, 0] == b"espresso"
    for name in ("labels", "class_ids"):
        assert result.as_numpy(name).tolist() == expected[name].tolist()
    # Photos of one batch are rounded otherwise than one photo alone.
    np.testing.assert_allclose(result.as_numpy("scores"), expected["scores"], atol=1e-4)


def test_triton_infer(client: triton.InferenceServerClient, expected: InferResult) -> None:
    result = client.infer("classify", image(PHOTO), request_id="17")
    assert_top_5(result, expected)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("classify", "1", "17")


def test_triton_infer_of_one_output_with_a_parameter(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("class_ids")]
    parameters = {"top_k": 3}
    result = client.infer(
        "classify", image(PHOTO, PHOTO), outputs=outputs, priority=2, timeout=5_000_000, parameters=parameters
    )
    assert result.as_numpy("class_ids").shape == (2, 3)
    assert result.as_numpy("labels") is None


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_triton_infer_compressed(client: triton.InferenceServerClient, expected: InferResult, compression: str) -> None:
    assert_top_5(client.infer("classify", image(PHOTO), compression_algorithm=compression), expected)


def test_triton_async_infer(client: triton.InferenceServerClient, expected: InferResult) -> None:
    answers: queue.Queue[tuple[triton.InferResult, InferenceServerException | None]] = queue.Queue()
    for _ in range(3):
        client.async_infer("classify", image(PHOTO), lambda result, error: answers.put((result, error)))
    for _ in range(3):
        result, error = answers.get(timeout=20)
        assert error is None
        assert_top_5(result, expected)


async def test_triton_aio_infer(mesh: Mesh, expected: InferResult) -> None:
    async with triton_aio.InferenceServerClient(mesh.target) as client:
        assert await client.is_server_ready()
        assert_top_5(await client.infer("classify", image(PHOTO)), expected)


def test_triton_stream_goes_on_after_an_error(client: triton.InferenceServerClient, expected: InferResult) -> None:
    answers: queue.Queue[tuple[triton.InferResult, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index, photo in enumerate((PHOTO, PHOTO, b"no photo", PHOTO)):
        client.async_stream_infer("classify", image(photo), request_id=str(index))
    client.stop_stream()
    results = [answers.get(timeout=20) for _ in range(4)]
    assert [result.get_response().id for result, _ in results if result] == ["0", "1", "3"]
    for result, error in results:
        if error is None:
            assert_top_5(result, expected)
    failure = results[2][1]
    assert failure is not None
    assert "image[0] of 1: expected a JPEG, PNG, WebP or BMP image, found 8 bytes" in failure.message()
    assert failure.message().startswith("preprocess@")


def test_an_error_in_a_stream_names_its_request_and_is_counted(mesh: Mesh) -> None:
    def failures() -> float:
        with urllib.request.urlopen(f"http://{mesh.gateway.host}:{mesh.gateway.http_port}/metrics") as answer:
            text = answer.read().decode()
        labels = 'model="classify",reason="IMAGE_FORMAT",stage="gateway"'
        return sum(float(line.split()[-1]) for line in text.splitlines() if f"failures_total{{{labels}}}" in line)

    before = failures()
    with grpc.insecure_channel(mesh.target) as channel:
        requests = iter([photos(b"no photo").SerializeToString()])
        (answer,) = OipStub(channel).ModelStreamInfer(requests, timeout=30)
    found = pb.ModelStreamInferResponse.FromString(answer)
    assert "expected a JPEG, PNG, WebP or BMP image" in found.error_message
    assert found.infer_response == pb.ModelInferResponse(id="7")
    assert failures() == before + 1


def test_triton_error(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unknown model: 'none' is not found") as caught:
        client.infer("none", image(PHOTO))
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("call", ["get_trace_settings", "get_system_shared_memory_status"])
def test_triton_calls_that_are_not_offered(client: triton.InferenceServerClient, call: str) -> None:
    with pytest.raises(InferenceServerException, match="Method not found"):
        getattr(client, call)()


def test_triton_readiness(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("classify")
    assert client.is_model_ready("classify", "1")
    assert not client.is_model_ready("classify", "2")
    assert not client.is_model_ready("no such model")


def test_triton_server_metadata(mesh: Mesh, client: triton.InferenceServerClient) -> None:
    metadata = client.get_server_metadata(as_json=True)
    assert metadata["name"] == "stagemesh-gateway"
    known = {"binary_tensor_data", "model_configuration", "model_repository", "statistics"}
    assert known <= set(metadata["extensions"])
    assert "stagemesh_route" not in metadata["extensions"]
    with triton.InferenceServerClient(mesh.preprocess.target) as stage:
        assert "stagemesh_route" in stage.get_server_metadata(as_json=True)["extensions"]


def test_triton_model_metadata(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("classify", as_json=True)
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": ["-1"]}]
    assert {tensor["name"]: tensor["datatype"] for tensor in metadata["outputs"]} == {
        "labels": "BYTES",
        "scores": "FP32",
        "class_ids": "INT32",
    }


def test_triton_model_config(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("classify", as_json=True)["config"]
    assert config["max_batch_size"] == 16
    assert [(tensor["name"], tensor["data_type"]) for tensor in config["input"]] == [("image", "TYPE_STRING")]
    assert [tensor["name"] for tensor in config["output"]] == list(TOP_5)


def test_triton_statistics(mesh: Mesh, client: triton.InferenceServerClient) -> None:
    def counts(service: ServiceProcess) -> tuple[int, int, int]:
        with triton.InferenceServerClient(service.target) as stage:
            (found,) = stage.get_inference_statistics("classify").model_stats
        stats = found.inference_stats
        return found.inference_count, stats.success.count, stats.fail.count

    before = [counts(service) for service in (mesh.gateway, mesh.infer[0])]
    client.infer("classify", image(PHOTO, PHOTO))
    with pytest.raises(InferenceServerException):
        client.infer("classify", image(b"no photo"))
    gateway, stage = (counts(service) for service in (mesh.gateway, mesh.infer[0]))
    assert (gateway[1] - before[0][1], gateway[2] - before[0][2]) == (1, 1)
    assert np.subtract(stage, before[1]).tolist() == [2, 1, 0]


def test_triton_repository_index(client: triton.InferenceServerClient) -> None:
    assert client.get_model_repository_index(as_json=True) == {
        "models": [{"name": "classify", "version": "1", "state": "READY"}]
    }


def test_each_stage_answers_alone(mesh: Mesh, expected: InferResult) -> None:
    with triton.InferenceServerClient(mesh.preprocess.target) as stage:
        prepared = stage.infer("classify", image(PHOTO))
    pixels, size = prepared.as_numpy("image"), prepared.as_numpy("meta.size")
    assert (pixels.dtype, pixels.shape) == (np.uint8, (1, 224, 224, 3))
    assert size.tolist() == [[400, 600]]
    assert prepared.as_numpy("meta.transform").shape == (1, 6)

    with triton.InferenceServerClient(mesh.infer[0].target) as stage:
        alone = stage.infer("classify", [triton_input("image", pixels, "UINT8")])
        met = stage.infer(
            "classify", [triton_input("image", pixels, "UINT8"), triton_input("meta.size", size, "INT32")]
        )
    logits = alone.as_numpy("logits")
    assert (logits.dtype, logits.shape) == (np.float32, (1, 1000))
    assert [output.name for output in alone.get_response().outputs] == ["logits"]
    assert met.as_numpy("meta.size").tolist() == size.tolist()
    np.testing.assert_allclose(met.as_numpy("logits"), logits, atol=1e-4)

    with triton.InferenceServerClient(mesh.postprocess.target) as stage:
        for inputs in (
            [triton_input("logits", logits, "FP32")],
            [triton_input("logits", logits, "FP32"), triton_input("meta.size", size, "INT32")],
        ):
            result = stage.infer("classify", inputs)
            assert [output.name for output in result.get_response().outputs] == list(TOP_5)
            assert_top_5(result, expected)


def test_typed_contents_are_taken_and_raw_ones_given(mesh: Mesh) -> None:
    grey = [127] * (224 * 224 * 3)
    logits = [float(index == 967) * 20 for index in range(1000)]
    answers = {
        "labels": infer(mesh.target, request(tensor("image", "BYTES", [1], bytes_contents=[PHOTO]))),
        "logits": infer(mesh.infer[0].target, request(tensor("image", "UINT8", [1, 224, 224, 3], uint_contents=grey))),
        "scores": infer(mesh.postprocess.target, request(tensor("logits", "FP32", [1, 1000], fp32_contents=logits))),
    }
    for name, answer in answers.items():
        assert name in [output.name for output in answer.outputs]
        assert len(answer.raw_output_contents) == len(answer.outputs)
        assert not any(output.HasField("contents") for output in answer.outputs)
    assert labels(answers["labels"])[0] == labels(answers["scores"])[0] == b"espresso"
    assert len(answers["logits"].raw_output_contents[0]) == 4000


def test_kserve_client(mesh: Mesh, expected: InferResult) -> None:
    script = Path(__file__).with_name("kserve_client.py")
    command = [sys.executable, script, mesh.target, COFFEE]
    end = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert end.returncode == 0, end.stderr
    top_5 = {
        "labels": [label.decode() for label in expected["labels"].ravel()],
        "class_ids": expected["class_ids"].tolist(),
    }
    assert json.loads(end.stdout.splitlines()[-1]) == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "unknown_ready": False,
        "raw": top_5,
        "typed": top_5,
    }
