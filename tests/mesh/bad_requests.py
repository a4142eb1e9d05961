"""Requests that must be refused, each with the status, the stage and the words of its refusal."""

from __future__ import annotations

from dataclasses import dataclass

from stagemesh.oip import open_inference_pb2 as pb
from tests.mesh import bad_photos
from tests.mesh.processes import ROOT
from tests.mesh.wire import framed, photos, request, tensor, zeros

COFFEE = (ROOT / "examples" / "photos" / "coffee.png").read_bytes()
TINY = bad_photos.png(1, 1, bad_photos.deflated_zeros(2))

INVALID = "INVALID_ARGUMENT"
NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True)
class Bad:
    """A message for `service`, and how it is refused by `stage`: status and a pattern of the words."""

    name: str
    message: pb.ModelInferRequest | bytes
    words: str
    status: str = INVALID
    service: str = "gateway"
    stage: str = "preprocess"
    model: str = "classify"


IMAGE = tensor("image", "BYTES", [1])
FRAMED = framed(COFFEE)
PIXELS = tensor("image", "UINT8", [1, 224, 224, 3])

BAD_PHOTOS = [
    Bad("not an image", photos(b"#!/bin/sh\n"), r"image\[0\] of 1: expected a JPEG, PNG, .* found 10 bytes that start"),
    Bad("zero bytes", photos(b""), r"expected a JPEG, .* found 0 bytes"),
    Bad("truncated", photos(COFFEE[:100_000]), r"expected a whole PNG image, found 100000 bytes that do not decode"),
    Bad("cut in its header", photos(COFFEE[:20]), r"expected a whole PNG image, found 20 bytes"),
    Bad("one of three", photos(COFFEE, b"?", COFFEE), r"image\[1\] of 3: expected a JPEG, .* found 1 bytes"),
    Bad(
        "60,000 x 60,000 header",
        photos(bad_photos.header_only(60_000, 60_000)),
        r"expected at most 50,000,000 pixels, found 60000 x 60000 = 3,600,000,000",
    ),
    Bad(
        "30,000 x 30,000 pixels",
        photos(bad_photos.black(30_000)),
        r"expected at most 50,000,000 pixels, found 30000 x 30000 = 900,000,000",
    ),
    Bad("text bomb", photos(bad_photos.text_bomb(64 << 20)), r"expected a whole PNG image, found .* do not decode"),
]

BAD_TENSORS = [
    Bad("wrong dtype", zeros("image", "UINT8", 1), r"'image': expected datatype BYTES, got UINT8"),
    Bad(
        "wrong dtype of pixels",
        zeros("image", "FP32", 1, 224, 224, 3),
        r"'image': expected datatype UINT8, got FP32",
        service="infer",
        stage="infer",
    ),
    Bad(
        "wrong dtype of logits",
        zeros("logits", "INT32", 1, 1000),
        r"'logits': expected datatype FP32, got INT32",
        service="postprocess",
        stage="postprocess",
    ),
    Bad(
        "unknown dtype",
        request(tensor("image", "JPEG", [1]), raw=[FRAMED]),
        r"'image': expected a datatype of BOOL, .* got 'JPEG'",
        stage="gateway",
    ),
    Bad(
        "wrong rank",
        request(tensor("image", "BYTES", [1, 1]), raw=[FRAMED]),
        r"'image': expected shape \[-1\], got \[1, 1\]",
    ),
    Bad(
        "wrong shape",
        zeros("image", "UINT8", 1, 3, 224, 224),
        r"'image': expected shape \[-1, 224, 224, 3\], got \[1, 3, 224, 224\]",
        service="infer",
        stage="infer",
    ),
    Bad(
        "wrong count of classes",
        zeros("logits", "FP32", 1, 999),
        r"'logits': expected shape \[-1, 1000\], got \[1, 999\]",
        service="postprocess",
        stage="postprocess",
    ),
    Bad(
        "negative shape",
        request(tensor("image", "BYTES", [-1]), raw=[FRAMED]),
        r"'image': expected a shape without negative dimensions, got \[-1\]",
        stage="gateway",
    ),
    Bad(
        "overflowing shape",
        request(tensor("image", "UINT8", [2**32, 2**32]), raw=[b""]),
        r"'image': expected a shape of less than 2\*\*60 elements, got \[4294967296, 4294967296\]",
        stage="gateway",
    ),
    Bad(
        "huge shape",
        request(tensor("image", "UINT8", [2**40, 224, 224, 3]), raw=[bytes(3)]),
        r"'image': byte size mismatch for UINT8 .*: expected 165507286305865728, got 3",
        service="infer",
        stage="infer",
    ),
    Bad(
        "wrong byte size",
        request(PIXELS, raw=[bytes(150_527)]),
        r"'image': byte size mismatch for UINT8 .*: expected 150528, got 150527",
        service="infer",
        stage="infer",
    ),
    Bad(
        "wrong length of an element",
        request(IMAGE, raw=[FRAMED[:-1]]),
        rf"'image': expected {len(COFFEE)} bytes for BYTES element 0, got {len(COFFEE) - 1}",
        stage="gateway",
    ),
    Bad(
        "raw and typed together",
        request(tensor("image", "BYTES", [1], bytes_contents=[COFFEE]), raw=[FRAMED]),
        r"'image': expected raw or typed contents, got both",
        stage="gateway",
    ),
    Bad(
        "raw for one of two",
        request(IMAGE, tensor("image2", "BYTES", [1], bytes_contents=[COFFEE]), raw=[FRAMED]),
        r"expected 2 raw_input_contents, one for each input, got 1",
        stage="gateway",
    ),
    Bad("no contents", request(IMAGE), r"'image': expected 1 elements for \[1\], got 0", stage="gateway"),
    Bad("missing input", request(), r"missing input 'image': expected \['image'\], got \[\]"),
    Bad(
        "extra input",
        request(IMAGE, tensor("mask", "BYTES", [1]), raw=[FRAMED, FRAMED]),
        r"unexpected input 'mask': expected \['image'\], got \['image', 'mask'\]",
    ),
    Bad(
        "meta from a client",
        request(IMAGE, tensor("meta.size", "INT32", [1, 2]), raw=[FRAMED, bytes(8)]),
        r"unexpected input 'meta.size': expected \['image'\], got \['image', 'meta.size'\]",
    ),
    Bad(
        "meta of another batch",
        request(PIXELS, tensor("meta.size", "INT32", [2, 2]), raw=[bytes(150_528), bytes(16)]),
        r"'meta.size': expected 1 rows .* found shape \[2, 2\]",
        service="infer",
        stage="infer",
    ),
    Bad(
        "duplicate input",
        request(IMAGE, IMAGE, raw=[FRAMED, FRAMED]),
        r"'image': expected each name once, got it twice",
        stage="gateway",
    ),
    Bad("batch 0", photos(), r"'image': expected a batch of 1 to 16, got 0"),
    Bad("batch above max_batch", photos(*[TINY] * 17), r"'image': expected a batch of 1 to 16, got 17"),
    Bad(
        "batch above max_batch of pixels",
        zeros("image", "UINT8", 17, 224, 224, 3),
        r"'image': expected a batch of 1 to 16, got 17",
        service="infer",
        stage="infer",
    ),
]

BAD_NAMES = [
    Bad(
        "unknown model",
        photos(COFFEE, model="clasify"),
        r"unknown model: 'clasify' is not found, expected one of: classify",
        NOT_FOUND,
        stage="gateway",
        model="",
    ),
    Bad(
        "unknown model of a stage",
        photos(COFFEE, model="clasify"),
        r"unknown model: 'clasify' is not found, expected one of: classify",
        NOT_FOUND,
        service="preprocess",
        model="",
    ),
    Bad(
        "empty message", b"", r"unknown model: '' is not found, expected one of: ", NOT_FOUND, stage="gateway", model=""
    ),
    Bad("no message", b"\xff" * 40, r"malformed protobuf message", stage="gateway", model=""),
    Bad(
        "unknown version",
        photos(COFFEE, version="7"),
        r"model: 'classify' version 7 is not found, expected version 1",
        NOT_FOUND,
        stage="gateway",
    ),
    Bad(
        "version that is none",
        photos(COFFEE, version="new"),
        r"model version: expected a number or nothing, found 'new'",
        stage="gateway",
    ),
    Bad(
        "unknown output",
        pb.ModelInferRequest(
            model_name="classify",
            inputs=[IMAGE],
            raw_input_contents=[FRAMED],
            outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="boxes")],
        ),
        r"unexpected inference output 'boxes', expected some of labels, scores, class_ids",
        stage="postprocess",
    ),
    Bad(
        "top_k of nothing",
        photos(COFFEE, parameters={"top_k": 0}),
        r"parameter 'top_k': expected an integer from 1 to 1000, found 0",
        stage="postprocess",
    ),
]

BAD_ROUTES = [
    Bad(
        "route that loops",
        photos(COFFEE, parameters={"stagemesh_route": "infer,postprocess,infer"}),
        r"route 'infer,postprocess,infer' after stage 'preprocess' passes a stage twice, expected each at most once",
        service="preprocess",
    ),
    Bad(
        "route back to the stage itself",
        zeros("image", "UINT8", 1, 224, 224, 3, parameters={"stagemesh_route": "postprocess,infer"}),
        r"route 'postprocess,infer' after stage 'infer' passes a stage twice",
        service="infer",
        stage="infer",
    ),
    Bad(
        "route to an unknown stage",
        photos(COFFEE, parameters={"stagemesh_route": "infer,gateway"}),
        r"names unknown stage 'gateway', expected some of preprocess, infer, postprocess",
        service="preprocess",
    ),
    Bad(
        "route that is no text",
        photos(COFFEE, parameters={"stagemesh_route": 3}),
        r"parameter stagemesh_route: expected a string, found int",
        service="preprocess",
    ),
    Bad(
        "route without an address",
        zeros("logits", "FP32", 1, 1000, parameters={"stagemesh_route": "infer"}),
        r"next stage 'infer' has no address here, expected STAGEMESH_INFER_TARGET",
        "UNAVAILABLE",
        service="postprocess",
        stage="postprocess",
    ),
]

ALL_BAD = [*BAD_PHOTOS, *BAD_TENSORS, *BAD_NAMES, *BAD_ROUTES]
