"""Classify a photo with Triton's stock client: `python examples/tritonclient_infer.py [PHOTO]`, after `make up`.

Needs `pip install "tritonclient[grpc]"`; nothing of stagemesh.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

COFFEE = Path(__file__).parent / "photos" / "coffee.png"


def main() -> None:
    photo = Path(sys.argv[1]) if len(sys.argv) > 1 else COFFEE
    encoded = np.array([photo.read_bytes()], dtype=object)
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(encoded)
    client = triton.InferenceServerClient(os.environ.get("STAGEMESH_TARGET", "127.0.0.1:8001"))
    result = client.infer("classify", [image], parameters={"top_k": 3}, client_timeout=10.0)
    labels, scores = result.as_numpy("labels"), result.as_numpy("scores")
    assert labels is not None and scores is not None
    for label, score in zip(labels[0], scores[0], strict=True):
        print(f"{score:.3f}  {label.decode()}")


if __name__ == "__main__":
    main()
