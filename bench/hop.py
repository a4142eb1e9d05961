"""What a hop costs: one stage of ours with an identity plug-in, beside a bare handler that moves the same bytes.

The same blocking client sends the same message to both, turn by turn. `tiny` asks for a few bytes back, `echo` for
the whole tensor; `+sdk` is our client's encoding and decoding on top.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from bench.processes import free_port, python_server
from stagemesh.oip.messages import InferRequest, InferResponse
from stagemesh.oip.service import OipStub
from stagemesh.oip.tensors import Tensor

SIZES = (150_528, 602_112, 1_228_800, 4_915_200)
WARM_UP = 20
ROUNDS = 150

Call = Callable[[], object]


def p50_ms(calls: dict[str, Call]) -> dict[str, float]:
    """The median of each call in milliseconds, one round after the other, each round in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(WARM_UP + ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if index >= WARM_UP:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) * 1e3 for name, seconds in taken.items()}


def request_of(data: npt.NDArray[np.uint8], wanted: str) -> InferRequest:
    """A request that sends `data` and wants one output."""
    return InferRequest("identity", {"data": Tensor.from_numpy(data)}, outputs=(wanted,))


def through_sdk(infer: Callable[[bytes], bytes], request: InferRequest) -> object:
    """One call as our client makes it."""
    return InferResponse.decode(infer(request.encode())).outputs["size"].numpy()


def calls_of(size: int, ours: grpc.Channel, theirs: grpc.Channel) -> dict[str, Call]:
    """By name the calls that move `size` bytes."""
    data = np.random.default_rng(0).integers(0, 256, (1, size), np.uint8)
    for_tiny, for_echo = request_of(data, "size"), request_of(data, "data")
    infer = OipStub(ours).ModelInfer
    tiny: Any = theirs.unary_unary("/bench/Tiny")
    echo: Any = theirs.unary_unary("/bench/Echo")
    return {
        "tiny bytes": partial(tiny, for_tiny.encode()),
        "tiny stage": partial(infer, for_tiny.encode()),
        "tiny stage+sdk": partial(through_sdk, infer, for_tiny),
        "echo bytes": partial(echo, for_echo.encode()),
        "echo stage": partial(infer, for_echo.encode()),
    }


def measure() -> list[tuple[int, dict[str, float]]]:
    """For each size in bytes the medians of all calls."""
    ours, theirs = free_port(), free_port()
    stage = ["-m", "services.postprocess", "--models", "bench/models", "--port", str(ours), "--http-port", "0"]
    with (
        python_server(*stage, port=ours) as our_channel,
        python_server("-m", "bench.bytes_server", str(theirs), port=theirs) as their_channel,
    ):
        return [(size, p50_ms(calls_of(size, our_channel, their_channel))) for size in SIZES]


def main() -> None:
    """Print the table."""
    print("\nA hop: p50 in ms, concurrency 1, ours beside a bare grpc.aio bytes handler")
    print(f"{'bytes':>10} {'tiny: bytes':>12} {'stage':>8} {'ratio':>7} {'+sdk':>8} {'ratio':>7}"
          f" {'echo: bytes':>12} {'stage':>8} {'ratio':>7}")  # fmt: skip
    for size, ms in measure():
        base, echo = ms["tiny bytes"], ms["echo bytes"]
        print(
            f"{size:>10,} {base:>12.2f} {ms['tiny stage']:>8.2f} {ms['tiny stage'] / base:>6.2f}x"
            f" {ms['tiny stage+sdk']:>8.2f} {ms['tiny stage+sdk'] / base:>6.2f}x"
            f" {echo:>12.2f} {ms['echo stage']:>8.2f} {ms['echo stage'] / echo:>6.2f}x"
        )


if __name__ == "__main__":
    main()
