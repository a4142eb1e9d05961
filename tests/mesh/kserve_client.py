"""kserve's own client, unmodified: `python kserve_client.py TARGET PHOTO` prints what it got as one line of JSON.

A process of its own, because kserve and tritonclient register the same names in protobuf's default pool.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main(target: str, photo: bytes) -> dict[str, Any]:
    client = InferenceGRPCClient(target)
    found: dict[str, Any] = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready("classify"),
        "unknown_ready": await client.is_model_ready("no such model"),
    }
    raw = InferInput("image", [1], "BYTES")
    raw.set_data_from_numpy(np.array([photo], dtype=object), binary_data=True)
    typed = InferInput("image", [1], "BYTES", data=[photo])
    for kind, image in {"raw": raw, "typed": typed}.items():
        response = await client.infer(InferRequest("classify", [image]))
        arrays = {output.name: output.as_numpy() for output in response.outputs}
        labels = [bytes(label).decode() for label in arrays["labels"].ravel()]
        found[kind] = {"labels": labels, "class_ids": arrays["class_ids"].tolist()}
    await client.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))))
