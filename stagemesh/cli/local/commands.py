"""What to run for each replica of a local mesh: command line, environment, log file."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagemesh import tether
from stagemesh.cli.local.ports import HOST, Place, targets
from stagemesh.cli.local.redis_server import SOCKET, find_redis_server, private_redis
from stagemesh.errors import ConfigError
from stagemesh.machine import ALLOCATOR, cores

_DRAIN_S = "0.5"
_MIB = 1 << 20
_KV_CAPACITY_MIB = 1024
# Beside the values Redis holds the index, values about to be deleted, and what clients are being sent.
_REDIS_SHARE, _REDIS_SPARE = 1.25, 64 * _MIB


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
    socket: Path | None = None  # of a Redis, which is no gRPC server


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
    redis = _private_redis(options) if any(place.service == "kvstore" for place in places) else None
    if redis:
        hops |= dict.fromkeys(("STAGEMESH_REDIS_URL", "STAGEMESH_REDIS_DIRECT_URL"), f"unix://{redis.socket}")
    return [*([redis] if redis else []), *(_spec(place, options, hops, replicas) for place in places)]


def _private_redis(options: MeshOptions) -> ProcessSpec | None:
    """A Redis of the mesh's own, None where the environment names one. Raises ConfigError where none is installed."""
    if "STAGEMESH_REDIS_URL" in os.environ:
        return None
    # A short path: that of a unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="stagemesh-redis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    capacity = os.environ.get("STAGEMESH_KV_CAPACITY_MIB") or str(_KV_CAPACITY_MIB)
    if not capacity.isdecimal():
        raise ConfigError(f"STAGEMESH_KV_CAPACITY_MIB: expected a whole number, found {capacity!r}")
    memory = int(_REDIS_SHARE * int(capacity) * _MIB) + _REDIS_SPARE
    place = Place("redis", 0, 0)
    return ProcessSpec(
        place=place,
        command=_tethered(*private_redis(find_redis_server(), folder, memory)),
        env=os.environ,
        log=options.log_dir / f"{place.name}.log",
        cwd=folder,
        socket=folder / SOCKET,
    )


def _spec(place: Place, options: MeshOptions, hops: Mapping[str, str], infer_replicas: int) -> ProcessSpec:
    settings = {"PYTHONUNBUFFERED": "1", "STAGEMESH_DRAIN_S": _DRAIN_S, **ALLOCATOR}
    if place.service == "infer":
        settings["STAGEMESH_THREADS"] = str(max(1, cores() // infer_replicas))
    return ProcessSpec(
        place=place,
        command=_tethered(*_service(place, options)),
        env={**settings, **os.environ, **hops},
        log=options.log_dir / f"{place.name}.log",
        cwd=options.checkout,
    )


def _tethered(*command: str) -> tuple[str, ...]:
    return (sys.executable, "-I", str(Path(tether.__file__)), str(os.getpid()), *command)


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
