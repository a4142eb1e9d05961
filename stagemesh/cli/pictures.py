"""Where `stagemesh infer` puts the photos it draws on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from stagemesh.draw import check_path
from stagemesh.errors import ConfigError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`-o` and `--out-dir`; `pictures_of` reads them."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-o", "--out", type=Path, metavar="PICTURE", help="draw what was found on the photo into this file"
    )
    group.add_argument(
        "--out-dir", type=Path, metavar="DIR", help="the same for many photos, a PNG in this folder each"
    )


def pictures_of(args: argparse.Namespace) -> list[Path | None]:
    """The picture to write for each photo; raises ConfigError for a file that is none, or one for several photos."""
    photos: Sequence[Path] = args.files
    if args.out:
        if len(photos) > 1:
            raise ConfigError(f"-o takes the picture of one photo, found {len(photos)} photos: use --out-dir")
        return [check_path(args.out)]
    if not args.out_dir:
        return [None] * len(photos)
    try:
        args.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out-dir: expected a folder that can be made, found {error}") from error
    return [args.out_dir / name for name in _names(photos)]


def _names(photos: Sequence[Path]) -> list[str]:
    """A PNG's name for each photo, numbered where photos of several folders are called the same."""
    names: list[str] = []
    for photo in photos:
        name, number = f"{photo.stem}.png", 1
        while name in names:
            number += 1
            name = f"{photo.stem}-{number}.png"
        names.append(name)
    return names
