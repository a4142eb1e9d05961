"""`stagemesh models`: the models of the mesh, their states, inputs and outputs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from stagemesh.cli import console, flags
from stagemesh.client import Client, ModelMetadata, ModelState, TensorInfo
from stagemesh.errors import StagemeshError

_DEADLINE_S = 10.0


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "models",
        help="the models with their states, inputs and outputs",
        description="List the models that the server at --target has in its repository.",
    )
    flags.add_target(parser)
    flags.add_json(parser, "one JSON line a model")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List the models; those that are not ready have no inputs and outputs."""
    with Client(flags.target_of(args), deadline_s=_DEADLINE_S) as client:
        found = [(model, _metadata(client, model)) for model in client.models()]
    if args.json:
        for model, metadata in found:
            print(json.dumps(_plain(model, metadata)))
    else:
        _show(console.out(), found)
    return 0


def _metadata(client: Client, model: ModelState) -> ModelMetadata | None:
    if not model.ready:
        return None
    try:
        return client.metadata(model.name, model.version)
    except StagemeshError:
        # It may be unloaded, or a stage lost, between the two questions: the list stays useful without.
        return None


def _plain(model: ModelState, metadata: ModelMetadata | None) -> dict[str, object]:
    tensors: dict[str, object] = {"platform": "", "inputs": [], "outputs": []}
    if metadata:
        tensors = {
            "platform": metadata.platform,
            "inputs": [asdict(tensor) for tensor in metadata.inputs],
            "outputs": [asdict(tensor) for tensor in metadata.outputs],
        }
    return {**asdict(model), **tensors}


def _show(target: Console, found: Sequence[tuple[ModelState, ModelMetadata | None]]) -> None:
    rows = console.table(target, "model", "version", "state", "inputs", "outputs")
    for model, metadata in found:
        state = Text(model.state.lower(), style="green" if model.ready else "yellow")
        state.append(f": {model.reason}" if model.reason else "")
        rows.add_row(
            Text(model.name),
            Text(model.version),
            state,
            _tensors(metadata.inputs if metadata else ()),
            _tensors(metadata.outputs if metadata else ()),
        )
    target.print(rows)


def _tensors(tensors: Sequence[TensorInfo]) -> Text:
    return Text("\n".join(f"{tensor.name} {tensor.datatype} {list(tensor.shape)}" for tensor in tensors))
