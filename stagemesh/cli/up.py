"""`stagemesh up`: the whole mesh as local processes."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.live import Live

from stagemesh.cli import console, flags
from stagemesh.cli.fetch import cache_folder, fetch
from stagemesh.cli.local.commands import MeshOptions, mesh_options, process_specs
from stagemesh.cli.local.mesh import READY_TIMEOUT_S, LocalMesh
from stagemesh.cli.local.ports import Place, check_free, parse_replicas, plan, plan_free, targets
from stagemesh.cli.local.view import mesh_table
from stagemesh.errors import ConfigError

_LOOK_S = 0.2
_Handler = Callable[[int, FrameType | None], object]
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "up",
        help="start all services as local processes",
        usage="%(prog)s [options] [-- VERB ARGS…]",
        description="Start the services, show a table until all are ready, restart one that dies. Ctrl-C "
        "drains and stops them. With `-- VERB ARGS…`, run that verb against the mesh once it is ready, stop "
        "the mesh, and end with the verb's exit code.",
    )
    parser.add_argument("--models", default="", metavar="NAME,…", help="models to serve (default: all)")
    flags.add_replicas(parser)
    flags.add_port_base(parser, ", 0 finds a free block")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="model repository (default: models)")
    parser.add_argument("--log-format", choices=("human", "json"), default="human")
    parser.add_argument("--log-dir", type=Path, metavar="DIR", help="folder of the services' log files")
    parser.add_argument(
        "--ready-timeout",
        type=float,
        default=READY_TIMEOUT_S,
        metavar="S",
        help="give up when not all services are ready by then (default: %(default).0f s)",
    )
    parser.set_defaults(run=run, then=None)


def run(args: argparse.Namespace) -> int:
    """Keep the mesh up until a signal comes or the following verb is done."""
    err = console.err()
    places = _places(args)
    options = _options(args, places)
    # Here, where a progress bar can be seen; the services then find their files in the cache.
    fetch(options.repository, options.model_names, cache_folder())
    mesh = LocalMesh(process_specs(places, options), lambda line: err.print(line, soft_wrap=True))
    try:
        with _stop_signals(_interrupt), mesh:
            try:
                _wait_until_ready(mesh, err, args.ready_timeout)
                return _run_then(args.then, args, places) if args.then else _keep(mesh, err, places)
            finally:
                # A second signal while draining means now.
                _set_stop_signals(lambda *_: mesh.hurry())
                err.print("stopping: the gateway first, then the stages")
    except KeyboardInterrupt:
        if args.then:
            raise
        return 0


def _places(args: argparse.Namespace) -> tuple[Place, ...]:
    replicas, base = parse_replicas(args.replicas), flags.port_base_of(args)
    if base == 0:
        return plan_free(replicas)
    places = plan(replicas, base)
    check_free(places)
    return places


def _options(args: argparse.Namespace, places: Sequence[Place]) -> MeshOptions:
    return mesh_options(
        places,
        cache_folder(),
        model_names=tuple(name.strip() for name in args.models.split(",") if name.strip()),
        repository=args.repository,
        log_dir=args.log_dir,
        log_format=args.log_format,
    )


def _wait_until_ready(mesh: LocalMesh, err: Console, timeout_s: float) -> None:
    err.print(f"logs: {mesh.children[0].spec.log.parent}", soft_wrap=True)
    with _table(mesh, err) as refresh:
        mesh.wait_until_ready(timeout_s, refresh)


@contextmanager
def _table(mesh: LocalMesh, err: Console) -> Iterator[Callable[[], None]]:
    """A table that the yielded function brings up to date; off a terminal, printed once at the end."""
    if not err.is_terminal:
        yield lambda: None
        err.print(mesh_table(err, mesh.children))
        return
    with Live(console=err, auto_refresh=False, redirect_stdout=False) as live:
        yield lambda: live.update(mesh_table(err, mesh.children), refresh=True)


def _keep(mesh: LocalMesh, err: Console, places: Sequence[Place]) -> NoReturn:
    doors = [place for place in places if place.service == "gateway"]
    addresses = ", ".join(place.address for place in doors)
    err.print(
        f"ready: send requests to {addresses}, metrics at http://127.0.0.1:{doors[0].http_port}/metrics; Ctrl-C stops",
        soft_wrap=True,
    )
    while True:
        mesh.check()
        time.sleep(_LOOK_S)


def _run_then(then: argparse.Namespace, args: argparse.Namespace, places: Sequence[Place]) -> int:
    if "port_base" in then:
        then.port_base, then.replicas = places[0].base, args.replicas
    else:
        service = getattr(then, "service", "gateway")
        if service not in targets(places):
            raise ConfigError(f"up: expected --replicas {service}=1 or more for the verb after it, found none")
        then.target = targets(places)[service]
    return int(then.run(then))


@contextmanager
def _stop_signals(handler: _Handler) -> Iterator[None]:
    before = [signal.getsignal(number) for number in _STOP_SIGNALS]
    _set_stop_signals(handler)
    try:
        yield
    finally:
        for number, old in zip(_STOP_SIGNALS, before, strict=True):
            signal.signal(number, old)


def _set_stop_signals(handler: _Handler) -> None:
    for number in _STOP_SIGNALS:
        signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
