"""What a hop costs: one stage of ours with an identity plug-in, beside a bare handler that moves the same bytes.

The same blocking client sends the same message to both, turn by turn. `tiny` asks for a few bytes back, `echo` for
the whole tensor; `+sdk` is our client's encoding and decoding on top.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

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


def request_of(data: np.ndarray, wanted: str) -> InferRequest:
    """A request that sends `data` and wants one output."""
    return InferRequest("identity", {"data": Tensor.from_numpy(data)}, outputs=(wanted,))


def measure() -> list[tuple[int, dict[str, float]]]:
    """For each size in bytes the medians of all calls."""
    ours, theirs = free_port(), free_port()
    stage = ["-m", "services.postprocess", "--models", "bench/models", "--port", str(ours), "--http-port", "0"]
    with (
        python_server(*stage, port=ours) as our_channel,
        python_server("-m", "bench.bytes_server", str(theirs), port=theirs) as their_channel,
    ):
        infer = OipStub(our_channel).ModelInfer
        tiny, echo = (their_channel.unary_unary(f"/bench/{name}") for name in ("Tiny", "Echo"))
        rows = []
        for size in SIZES:
            data = np.random.default_rng(0).integers(0, 256, (1, size), np.uint8)
            for_tiny, for_echo = request_of(data, "size"), request_of(data, "data")
            tiny_bytes, echo_bytes = for_tiny.encode(), for_echo.encode()
            calls: dict[str, Call] = {
                "tiny bytes": lambda m=tiny_bytes: tiny(m),
                "tiny stage": lambda m=tiny_bytes: infer(m),
                "tiny stage+sdk": lambda r=for_tiny: InferResponse.decode(infer(r.encode())).outputs["size"].numpy(),
                "echo bytes": lambda m=echo_bytes: echo(m),
                "echo stage": lambda m=echo_bytes: infer(m),
            }
            rows.append((size, p50_ms(calls)))
    return rows


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
