"""Foreign inference servers, built on tritonclient's generated modules alone: they know nothing of the mesh.

`python foreign_server.py ARCHITECTURE.py WEIGHTS LABELS.txt` serves preprocess, infer and postprocess, each on a
free port, and prints a line with each port.
"""

from __future__ import annotations

import io
import runpy
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import torch
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

Answer = list[tuple[str, str, list[int], bytes]]


class Foreign(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Implements ModelInfer for the one input it knows, and refuses every other input and every parameter."""

    def __init__(self, takes: str, answer: Callable[[list[int], bytes], Answer]) -> None:
        self._takes, self._answer = takes, answer

    def ModelInfer(
        self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> service_pb2.ModelInferResponse:
        names = [tensor.name for tensor in request.inputs]
        if names != [self._takes] or any(key.startswith("stagemesh") for key in request.parameters):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no idea what {names} {request.parameters} are")
        try:
            answer = self._answer(list(request.inputs[0].shape), request.raw_input_contents[0])
        except OSError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for name, datatype, shape, raw in answer:
            response.outputs.add(name=name, datatype=datatype, shape=shape)
            response.raw_output_contents.append(raw)
        return response


def preprocess(shape: list[int], raw: bytes) -> Answer:
    photo = Image.open(io.BytesIO(raw[4:])).convert("RGB")
    side = min(photo.size) * 0.875
    left, top = (photo.width - side) / 2, (photo.height - side) / 2
    photo = photo.resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return [("image", "UINT8", [1, 224, 224, 3], photo.tobytes())]


def infer(network: torch.nn.Module, shape: list[int], raw: bytes) -> Answer:
    image = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(shape).copy()).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network((image - 127.0) / 128.0)
    return [("logits", "FP32", list(logits.shape), logits.numpy().tobytes())]


def postprocess(labels: list[str], shape: list[int], raw: bytes) -> Answer:
    best = np.argsort(-np.frombuffer(raw, np.float32).reshape(shape))[:, :5].astype(np.int32)
    named = [labels[index].encode() for index in best.ravel()]
    framed = b"".join(struct.pack("<I", len(name)) + name for name in named)
    return [("labels", "BYTES", list(best.shape), framed), ("class_ids", "INT32", list(best.shape), best.tobytes())]


def main(architecture: str, weights: str, labels: str) -> None:
    network = runpy.run_path(architecture)["efficientnet_lite0"]().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    names = Path(labels).read_text().splitlines()
    servicers = {
        "preprocess": Foreign("image", preprocess),
        "infer": Foreign("image", lambda shape, raw: infer(network, shape, raw)),
        "postprocess": Foreign("logits", lambda shape, raw: postprocess(names, shape, raw)),
    }
    servers = [grpc.server(ThreadPoolExecutor(2)) for _ in servicers]
    for server, (stage, servicer) in zip(servers, servicers.items(), strict=True):
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        print(stage, server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
    sys.stdin.read()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
