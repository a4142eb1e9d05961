"""Engine folders in a cache: one for each identity, written whole or not at all.

    <cache>/engines/<model>-<key>/manifest.json      what the files are, see `manifest`
                                  aotinductor.pt2    native code
                                  onnxruntime.onnx   the network as ONNX

Every file gets its name by one rename, files before the manifest that lists them. Builders hold a lock between
processes; readers need none.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.infer.engine.manifest import EngineFile, EngineRefused, Identity, Manifest
from services.infer.engine.program import AOTINDUCTOR, ONNXRUNTIME
from stagemesh.errors import ConfigError
from stagemesh.sources import STAGING_PREFIX, file_digest, locked

MANIFEST = "manifest.json"
FILE_NAMES = {AOTINDUCTOR: "aotinductor.pt2", ONNXRUNTIME: "onnxruntime.onnx"}

log = logging.getLogger(__name__)


class StoreUnwritable(ConfigError):
    """Engines can't be kept in the cache: a read-only folder, a full disk."""


class EngineStore:
    """The engines of one cache folder."""

    def __init__(self, cache: Path) -> None:
        """`cache` need not exist yet."""
        self._root = cache / "engines"

    def folder(self, identity: Identity) -> Path:
        """Where the engine of `identity` lies, or would."""
        return self._root / identity.key

    def find(self, identity: Identity) -> Manifest | None:
        """The manifest of the engine of `identity`, None where there is none.

        Raises EngineRefused where what lies there is no manifest, or one of something else.
        """
        path = self.folder(identity) / MANIFEST
        if not path.is_file():
            return None
        manifest = Manifest.read(path)
        manifest.check(identity)
        return manifest

    def unfit(self, identity: Identity) -> list[str]:
        """Why each other engine of the same model that lies here is not the one of `identity`, the last built first."""
        reasons = []
        found = [path for path in self._root.glob(f"{identity.model}-*/{MANIFEST}") if path.parent.name != identity.key]
        for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                manifest = Manifest.read(path)
                if manifest.identity.model == identity.model:
                    manifest.check(identity)
            except EngineRefused as error:
                reasons.append(f"{path.parent.name}: {error}")
        return reasons

    @contextmanager
    def building(self, identity: Identity) -> Iterator[None]:
        """No other process builds the engine of `identity` while the block runs. Raises StoreUnwritable."""
        with ExitStack() as stack:
            with self._writing():
                self.folder(identity).mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self._root / f"{identity.key}.lock"))
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnwritable(f"engines can't be kept in the cache {self._root}: {error}") from error

    def add_file(self, manifest: Manifest, backend: str, version: str, write: Callable[[Path], None]) -> Manifest:
        """Let `write` make the file of `backend` at the path it gets; save it, then the manifest that lists it.

        Raises StoreUnwritable, and what `write` raises; nothing is left of a file that failed.
        """
        folder = self.folder(manifest.identity)
        with self._writing():
            for leftover in folder.glob(f"{STAGING_PREFIX}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=folder) as staging:
                made = Path(staging) / FILE_NAMES[backend]
                write(made)
                file = EngineFile(name=made.name, size=made.stat().st_size, sha256=file_digest(made), version=version)
                made.replace(folder / made.name)
        return self.save(manifest.with_file(backend, file))

    def save(self, manifest: Manifest) -> Manifest:
        """Write the manifest into its folder. Raises StoreUnwritable."""
        folder = self.folder(manifest.identity)
        with self._writing(), tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=folder) as staging:
            made = Path(staging) / MANIFEST
            manifest.write(made)
            made.replace(folder / MANIFEST)
        return manifest

    def verified(self, manifest: Manifest, backend: str, version: str) -> Path:
        """The file of `backend`, read through once and found to be the one the manifest lists.

        Raises EngineRefused: no such file, another size, checksum or version of the backend.
        """
        file = manifest.files.get(backend)
        folder = self.folder(manifest.identity)
        if file is None:
            raise EngineRefused(f"{folder}: expected an engine file of {backend}, the manifest lists none")
        path = folder / FILE_NAMES[backend]
        for name, expected, found in (
            ("name", FILE_NAMES[backend], file.name),
            ("version", file.version, version),
            ("size", file.size, path.stat().st_size if path.is_file() else "no file"),
        ):
            if expected != found:
                raise EngineRefused(f"{path}: {name}: expected {expected!r}, found {found!r}")
        if (digest := file_digest(path)) != file.sha256:
            raise EngineRefused(f"{path}: sha256: expected {file.sha256}, found {digest}")
        return path
