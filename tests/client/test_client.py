"""Client and AsyncClient against a real server: what they send, what they give back, what they raise."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stagemesh import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidInput,
    RemoteFailure,
    StagemeshError,
    Unavailable,
)

Connect = Callable[..., Any]
ARRAYS = {
    "fp32": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "fp64 strided": np.arange(12, dtype=np.float64).reshape(2, 6)[:, ::2],
    "uint8": np.full((1, 4, 4, 3), 7, np.uint8),
    "int64 big-endian": np.array([[1, -2]], ">i8"),
    "bool": np.array([[True, False]]),
    "bf16": np.ones((1, 2), ml_dtypes.bfloat16),
    "empty": np.empty((1, 0), np.int32),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
async def test_arrays_come_back_as_they_were_sent(connect: Connect, server: str, array: np.ndarray) -> None:
    result = await connect(server).infer("echo", {"x": array})
    assert result["x"].shape == array.shape
    assert result["x"].dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(result["x"], array)


async def test_bytes_and_text_come_back_as_bytes(connect: Connect, server: str) -> None:
    result = await connect(server).infer("echo", {"x": np.array(["käse", b"\x00\xff", ""], dtype=object)})
    assert result["x"].tolist() == ["käse".encode(), b"\x00\xff", b""]


async def test_a_message_above_grpcs_default_limit_passes(connect: Connect, server: str) -> None:
    array = np.zeros((1, 8 << 20), np.uint8)
    assert (await connect(server).infer("echo", {"x": array}))["x"].size == array.size


async def test_the_result_names_model_version_id_and_parameters(connect: Connect, server: str) -> None:
    parameters = {"top_k": 3, "ratio": 0.5, "flag": True, "word": "yes"}
    array = np.zeros((1, 1))
    result = await connect(server).infer("echo", {"x": array}, parameters=parameters, request_id="r-7")
    assert (result.model_name, result.model_version, result.id) == ("echo", "1", "r-7")
    assert result.parameters == parameters


async def test_every_request_gets_an_id_of_its_own(connect: Connect, server: str) -> None:
    client = connect(server)
    ids = {(await client.infer("echo", {"x": np.zeros((1, 1))})).id for _ in range(3)}
    assert len(ids) == 3 and all(ids)


async def test_only_the_wanted_outputs_come_back(connect: Connect, server: str) -> None:
    inputs = {"a": np.zeros((1, 1)), "b": np.ones((1, 1))}
    result = await connect(server).infer("echo", inputs, outputs=["b"])
    assert list(result) == ["b"] and len(result) == 1 and "a" not in result


async def test_photos_are_sent_unchanged_one_or_a_batch(connect: Connect, server: str, tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(b"a photo")
    client = connect(server)
    assert (await client.infer_image("echo", file))["image"].tolist() == [b"a photo"]
    assert (await client.infer_image("echo", b"raw"))["image"].tolist() == [b"raw"]
    batch = await client.infer_image("echo", [file, b"raw", str(file)])
    assert batch["image"].tolist() == [b"a photo", b"raw", b"a photo"]


async def test_a_photo_that_is_no_file_raises_oserror(connect: Connect, server: str) -> None:
    with pytest.raises(FileNotFoundError):
        await connect(server).infer_image("echo", "no/such.png")


async def test_questions(connect: Connect, server: str) -> None:
    client = connect(server)
    assert await client.live() and await client.ready()
    assert await client.model_ready("echo") and not await client.model_ready("other")
    assert [model.name for model in await client.models() if model.ready] == ["echo", "slow", "labels"]
    metadata = await client.metadata("echo")
    assert (metadata.name, metadata.versions, metadata.platform) == ("echo", ("1",), "echo")
    assert [(t.name, t.datatype, t.shape) for t in metadata.inputs] == [("image", "BYTES", (-1,))]
    assert (await client.config("echo")).max_batch_size == 4
    assert [s.name for s in await client.statistics()] == ["echo", "slow", "labels"]
    assert [s.name for s in await client.statistics("slow")] == ["slow"]


async def test_an_error_keeps_status_reason_and_origin(connect: Connect, server: str) -> None:
    with pytest.raises(RemoteFailure) as raised:
        await connect(server).infer("echo", {"x": np.zeros((1, 1))}, parameters={"fail": True}, request_id="r-8")
    error = raised.value
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert error.origin
    origin = (error.origin.stage, error.origin.replica, error.origin.model, error.origin.request_id)
    assert origin == ("echo", "echo-1", "echo", "r-8")
    assert "found one" in str(error) and "r-8" in str(error)


async def test_an_unknown_model_is_not_found_and_named(connect: Connect, server: str) -> None:
    with pytest.raises(RemoteFailure, match="'nope'") as raised:
        await connect(server).metadata("nope")
    assert raised.value.status == "NOT_FOUND"
    assert raised.value.origin and raised.value.origin.model == "nope"


async def test_a_dtype_the_protocol_lacks_never_leaves(connect: Connect, server: str) -> None:
    with pytest.raises(InvalidInput, match="complex"):
        await connect(server).infer("echo", {"x": np.zeros((1, 1), np.complex64)})


async def test_the_deadline_ends_a_slow_call(connect: Connect, server: str) -> None:
    started = time.monotonic()
    with pytest.raises(StagemeshError) as raised:
        await connect(server).infer(
            "slow", {"x": np.zeros((1, 1))}, parameters={"sleep_s": 20.0}, deadline_s=0.1, request_id="r-9"
        )
    assert time.monotonic() - started < 10  # long before the answer
    error = raised.value
    assert isinstance(error, DeadlineExceeded) or getattr(error, "status", "") == "DEADLINE_EXCEEDED"
    assert "r-9" in str(error)


async def test_nobody_at_the_target_is_unavailable_and_named(connect: Connect) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{closed.getsockname()[1]}"
        client = connect(target, deadline_s=10.0)
        with pytest.raises(Unavailable, match=target):
            await client.live()
        with pytest.raises(Unavailable, match=r"request r-10"):
            await client.infer("echo", {"x": np.zeros((1, 1))}, request_id="r-10")


async def test_a_server_that_is_not_ready_still_answers_questions(connect: Connect, unready_server: str) -> None:
    client = connect(unready_server)
    assert await client.live() and not await client.ready()
    assert [(m.state, m.reason) for m in await client.models()] == [("LOADING", "fetching weights")] * 3


async def test_a_server_whose_models_do_not_change_says_so(connect: Connect, server: str) -> None:
    client = connect(server)
    for change, words in ((client.load_model, "at the start alone"), (client.unload_model, "until it ends")):
        with pytest.raises(RemoteFailure, match=words) as raised:
            await change("echo")
        assert raised.value.status == "UNIMPLEMENTED"


def test_the_blocking_client_is_a_context_manager(server: str) -> None:
    with Client(server) as client:
        assert client.live()


async def test_the_async_client_is_a_context_manager(server: str) -> None:
    async with AsyncClient(server) as client:
        assert await client.live()
