"""Classify many photos at once with the async client: `python examples/sdk_async.py`, after `make up`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from stagemesh import AsyncClient, StagemeshError

PHOTOS = Path(__file__).parent / "photos"


async def classify(client: AsyncClient, photo: Path) -> str:
    try:
        result = await client.infer_image("classify", photo, deadline_s=10.0)
    except StagemeshError as error:
        return f"{photo.name}: {error}"
    return f"{photo.name}: {result['labels'][0][0].decode()} {result['scores'][0][0]:.3f}"


async def main() -> None:
    photos = sorted([*PHOTOS.glob("*.png"), *PHOTOS.glob("*.jpg")])
    async with AsyncClient(os.environ.get("STAGEMESH_TARGET", "127.0.0.1:8001")) as client:
        for line in await asyncio.gather(*(classify(client, photo) for photo in photos)):
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
