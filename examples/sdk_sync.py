"""Classify photos with the blocking client: `python examples/sdk_sync.py [PHOTO…]`, after `make up`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stagemesh import Client, StagemeshError

COFFEE = Path(__file__).parent / "photos" / "coffee.png"


def main() -> int:
    photos = [Path(name) for name in sys.argv[1:]] or [COFFEE]
    with Client(os.environ.get("STAGEMESH_TARGET", "127.0.0.1:8001")) as client:
        for model in client.models():
            print(f"{model.name}: {model.state.lower()}")
        try:
            result = client.infer_image("classify", photos, parameters={"top_k": 3})
        except StagemeshError as error:
            print(error, file=sys.stderr)
            return 1
    for photo, labels, scores in zip(photos, result["labels"], result["scores"], strict=True):
        print(photo)
        for label, score in zip(labels, scores, strict=True):
            print(f"  {score:.3f}  {label.decode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
