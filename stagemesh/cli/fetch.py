"""`stagemesh fetch`: get the files of the models into the cache, so that services start without a network."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from stagemesh.cli import console
from stagemesh.errors import ConfigError
from stagemesh.repository import ModelFolder, read_repository
from stagemesh.settings import default_cache
from stagemesh.sources import resolve


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "fetch",
        help="download the files of models into the cache",
        description="Download what the models of a repository need, check it, keep it; offline afterwards.",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to fetch (default: all)")
    parser.add_argument("--repository", type=Path, default=Path("models"), metavar="DIR", help="(default: models)")
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="(default: %(default)s)")
    parser.set_defaults(run=run)


def cache_folder() -> Path:
    """The cache that services started from this environment use."""
    return Path(os.environ.get("STAGEMESH_CACHE") or default_cache())


def run(args: argparse.Namespace) -> int:
    """Fetch, and say where each file lies."""
    for path in fetch(args.repository, args.models, args.cache):
        console.out().print(path, soft_wrap=True, highlight=False)
    return 0


def fetch(repository: Path, names: Sequence[str], cache: Path) -> list[Path]:
    """Fetch what the tables of these models (all where none are named) give as `source`.

    A model that can't be read is left to its services, which say so. Raises ConfigError for a source that
    can't be had.
    """
    models = read_repository(repository, names).values()
    return [path for model in models if not isinstance(model, ConfigError) for path in _fetch_model(model, cache)]


def _fetch_model(model: ModelFolder, cache: Path) -> list[Path]:
    paths = []
    for name, table in model.tables.items():
        source, sha256 = table.get("source"), table.get("sha256", "")
        if isinstance(source, str) and isinstance(sha256, str):
            try:
                paths.append(resolve(source, sha256, model.path, cache))
            except ConfigError as error:
                raise ConfigError(f"{model.where(name)}: {error}") from error
    return paths
