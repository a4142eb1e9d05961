"""A local mesh for one program: on free ports, gone with the program."""

from __future__ import annotations

import atexit
import logging
from pathlib import Path

from stagemesh.cli import console
from stagemesh.cli.fetch import cache_folder, fetch
from stagemesh.cli.local.commands import mesh_options, process_specs
from stagemesh.cli.local.mesh import READY_TIMEOUT_S, LocalMesh
from stagemesh.cli.local.ports import plan_free, targets

log = logging.getLogger(__name__)


class PrivateMesh:
    """A mesh that serves `models` (all where none are named) at `target`; ends with `close` or the interpreter.

    Fetches what the models need and returns once all services are ready. Raises ConfigError for an unknown model or
    where there is no checkout, MeshFailed where a service doesn't start.
    """

    def __init__(self, *models: str, repository: Path | None = None, ready_timeout_s: float = READY_TIMEOUT_S) -> None:
        places = plan_free({})
        options = mesh_options(places, cache_folder(), model_names=models, repository=repository)
        fetch(options.repository, models, cache_folder())
        self.target = targets(places)["gateway"]
        self._mesh = LocalMesh(process_specs(places, options), log.info)
        self._mesh.__enter__()
        atexit.register(self.close)
        try:
            self._wait(", ".join(models) or "all models", ready_timeout_s)
        except BaseException:  # an interruption too must leave no process behind
            self.close()
            raise

    def close(self) -> None:
        """Drain and end all services; a second call does nothing."""
        atexit.unregister(self.close)
        self._mesh.stop()

    def _wait(self, what: str, timeout_s: float) -> None:
        with console.err().status(f"starting a mesh for {what} …"):  # seen on a terminal only
            self._mesh.wait_until_ready(timeout_s)
