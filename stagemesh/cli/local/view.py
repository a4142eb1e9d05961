"""The table of a local mesh."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stagemesh.cli import console
from stagemesh.cli.local.child import Child, State
from stagemesh.cli.status import describe_models

_STYLES = {State.READY: "green", State.GIVEN_UP: "bold red", State.RESTARTING: "red", State.STOPPED: "dim"}


def mesh_table(target: Console, children: Sequence[Child]) -> Table:
    """One row a process."""
    rows = console.table(target, "service", "replica", "port", "pid", "state", "restarts", "models")
    for child in children:
        place = child.spec.place
        rows.add_row(
            place.service,
            str(place.replica),
            str(place.port or "-"),
            str(child.pid or "-"),
            Text(child.state, style=_STYLES.get(child.state, "yellow")),
            str(child.restarts),
            describe_models(child.server.models),
        )
    return rows
