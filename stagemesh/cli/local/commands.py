"""What to run for each replica of a local mesh: command line, environment, log file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagemesh import tether
from stagemesh.cli.local.ports import HOST, Place, targets
from stagemesh.errors import ConfigError
from stagemesh.machine import ALLOCATOR, cores

_DRAIN_S = "0.5"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshOptions:
    """What the services of one local mesh have in common."""

    checkout: Path
    repository: Path
    log_dir: Path
    model_names: tuple[str, ...] = ()
    log_format: str = "human"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep alive."""

    place: Place
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    cwd: Path


def find_checkout() -> Path:
    """The folder that holds `services`; raises ConfigError where there is none."""
    looked = (Path.cwd(), Path(__file__).parents[3])
    for folder in looked:
        if (folder / "services" / "gateway" / "__main__.py").is_file():
            return folder
    raise ConfigError(
        "the services run from a checkout of the project, and `services/gateway` is neither in "
        f"{looked[0]} nor beside the installed package: change into the checkout, or use the images"
    )


def mesh_options(
    places: Sequence[Place],
    cache: Path,
    *,
    model_names: tuple[str, ...] = (),
    repository: Path | None = None,
    log_dir: Path | None = None,
    log_format: str = "human",
) -> MeshOptions:
    """Options with the checkout's own models, and logs in the cache, unless told otherwise; makes the log folder.

    Raises ConfigError where there is no checkout or no repository, or the folder can't be made.
    """
    checkout = find_checkout()
    repository = repository or checkout / "models"
    if not repository.is_dir():
        raise ConfigError(f"model repository: expected a folder, found nothing at {repository}")
    log_dir = log_dir or cache / "logs" / str(places[0].base)
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"log dir: expected a folder that can be made, found {error}") from error
    return MeshOptions(
        checkout=checkout,
        repository=repository.resolve(),
        log_dir=log_dir.resolve(),
        model_names=model_names,
        log_format=log_format,
    )


def process_specs(places: Sequence[Place], options: MeshOptions) -> list[ProcessSpec]:
    """One spec a place, in the given order."""
    hops = {f"STAGEMESH_{service.upper()}_TARGET": target for service, target in targets(places).items()}
    del hops["STAGEMESH_GATEWAY_TARGET"]
    replicas = sum(place.service == "infer" for place in places)
    return [_spec(place, options, hops, replicas) for place in places]


def _spec(place: Place, options: MeshOptions, hops: Mapping[str, str], infer_replicas: int) -> ProcessSpec:
    settings = {"PYTHONUNBUFFERED": "1", "STAGEMESH_DRAIN_S": _DRAIN_S, **ALLOCATOR}
    if place.service == "infer":
        settings["STAGEMESH_THREADS"] = str(max(1, cores() // infer_replicas))
    return ProcessSpec(
        place=place,
        command=(
            sys.executable,
            "-I",
            str(Path(tether.__file__)),
            str(os.getpid()),
            *_service(place, options),
        ),
        env={**settings, **os.environ, **hops},
        log=options.log_dir / f"{place.name}.log",
        cwd=options.checkout,
    )


def _service(place: Place, options: MeshOptions) -> tuple[str, ...]:
    flags = {
        "--host": HOST,
        "--port": str(place.port),
        "--http-port": str(place.http_port),
        "--models": str(options.repository),
        "--model-names": ",".join(options.model_names),
        "--log-format": options.log_format,
    }
    pairs = (part for flag in flags.items() if flag[1] for part in flag)
    return (sys.executable, "-m", f"services.{place.service}", *pairs)
