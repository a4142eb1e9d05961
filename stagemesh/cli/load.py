"""`stagemesh load MODEL…` and `stagemesh unload MODEL…`: change what a running mesh serves."""

from __future__ import annotations

import argparse

from stagemesh.cli import console, flags
from stagemesh.client import Client


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare both verbs and their flags."""
    load = verbs.add_parser(
        "load",
        help="read a model's folder and serve it, in place of what is served under its name",
        description="Have every replica of every stage load the model from its own repository folder, then send "
        "requests to it. Until then, and where a stage fails, what was served before stays in service.",
    )
    unload = verbs.add_parser(
        "unload",
        help="serve a model no longer",
        description="Refuse new requests to the model, and close it once those it has are answered.",
    )
    for parser, run in ((load, run_load), (unload, run_unload)):
        parser.add_argument("models", metavar="MODEL", nargs="+")
        flags.add_target(parser)
        parser.set_defaults(run=run)


def run_load(args: argparse.Namespace) -> int:
    """Load model after model; the first that fails ends it."""
    with Client(flags.target_of(args)) as client:
        for model in args.models:
            with console.err().status(f"loading {model}"):
                client.load_model(model)
            version = next((state.version for state in client.models() if state.name == model), "")
            console.out().print(f"{model}: version {version} is served")
    return 0


def run_unload(args: argparse.Namespace) -> int:
    """Unload model after model; the first that fails ends it."""
    with Client(flags.target_of(args)) as client:
        for model in args.models:
            client.unload_model(model)
            console.out().print(f"{model}: unloaded")
    return 0
