"""`stagemesh status`: the health of the gateway and the stages, and what they have loaded."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.text import Text

from stagemesh.cli import console, flags
from stagemesh.cli.local.ports import parse_replicas, plan
from stagemesh.cli.probe import Probe, ServerState
from stagemesh.client import ModelState

_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that should be there."""

    name: str
    address: str


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "status",
        help="health and models of every service; exit code 0 when all are ready",
        description="Ask the one server at --target, or with --port-base or --replicas, or without any target, the "
        "services of a local mesh. Exit code 0 when all of them and all their models are ready, else 1.",
    )
    flags.add_target(parser, "the local mesh")
    flags.add_port_base(parser)
    flags.add_replicas(parser)
    flags.add_json(parser, "one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, show, and return 0 only when all are ready."""
    servers = _servers(args)
    states = _ask([server.address for server in servers])
    ready = all(state.all_ready for state in states)
    if args.json:
        print(json.dumps({"ready": ready, "servers": _plain(servers, states)}))
    else:
        _show(console.out(), servers, states)
    return 0 if ready else 1


def describe_models(models: Sequence[ModelState]) -> Text:
    """The models of one server in one cell, each with the reason where it can't serve."""
    text = Text()
    for model in models:
        text.append("\n" if text else "")
        text.append(f"{model.name} {model.state.lower()}", style="green" if model.ready else "yellow")
        text.append(f": {model.reason}" if model.reason else "")
    return text


def _servers(args: argparse.Namespace) -> list[Server]:
    local = args.replicas or args.port_base is not None
    target = args.target if local else flags.named_target(args)
    if target:
        return [Server("server", target)]
    places = plan(parse_replicas(args.replicas), flags.port_base_of(args))
    return [Server(place.name, place.address) for place in places]


def _ask(addresses: Sequence[str]) -> list[ServerState]:
    probes = [Probe(address) for address in addresses]
    for probe in probes:
        probe.ask(_TIMEOUT_S)
    while not all(probe.answered for probe in probes):
        time.sleep(0.02)
    states = [probe.answer() or ServerState() for probe in probes]
    for probe in probes:
        probe.close()
    return states


def _plain(servers: Sequence[Server], states: Sequence[ServerState]) -> list[dict[str, object]]:
    return [
        {
            "name": server.name,
            "address": server.address,
            "ready": state.ready,
            "problem": state.problem or state.models_problem,
            "models": [asdict(model) for model in state.models],
        }
        for server, state in zip(servers, states, strict=True)
    ]


def _show(target: Console, servers: Sequence[Server], states: Sequence[ServerState]) -> None:
    rows = console.table(target, "service", "address", "state", "models")
    for server, state in zip(servers, states, strict=True):
        if state.problem:
            word = Text(f"no answer: {state.problem}", style="red")
        else:
            word = Text("ready", style="green") if state.ready else Text("not ready", style="yellow")
        models = describe_models(state.models)
        models.append(f"unknown: {state.models_problem}" if state.models_problem else "", style="red")
        rows.add_row(Text(server.name), Text(server.address), word, models)
    target.print(rows)
