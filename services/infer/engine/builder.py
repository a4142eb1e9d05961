"""Building engines: candidates are made, compared, timed, saved with a manifest, and the choice is loaded.

    builder = EngineBuilder(EngineStore(cache))
    engine = builder.build(network, BuilderConfig(device=device, profile=profile))
    with engine.context() as context:
        outputs = context.enqueue(inputs)

What is in the store already is loaded, not built again.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from services.infer.engine.aotinductor import compile_package, find_compiler
from services.infer.engine.definition import NetworkDefinition
from services.infer.engine.eager import EagerProgram
from services.infer.engine.engine import Engine, backend_version, deserialize
from services.infer.engine.machine import Machine
from services.infer.engine.manifest import EngineRefused, Identity, Manifest, Tactic
from services.infer.engine.onnx_session import check_available, recommend
from services.infer.engine.profile import OptimizationProfile
from services.infer.engine.program import (
    AOTINDUCTOR,
    AUTO,
    EAGER,
    ONNXRUNTIME,
    BackendUnavailable,
    Program,
    SizedProgram,
)
from services.infer.engine.store import EngineStore, StoreUnwritable
from services.infer.engine.tactics import measure
from stagemesh.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderConfig:
    """What to build: `backend` is auto or one of BACKENDS; `compiles` allows what takes tens of seconds.

    `threads` is the number of CPU threads that the engine will have when it runs.
    """

    device: torch.device
    profile: OptimizationProfile
    dtype: str = "fp32"
    backend: str = AUTO
    compiles: bool = False
    threads: int = 1


class EngineBuilder:
    """Makes engines of networks and keeps them in a store; `report` is told each step that takes time."""

    def __init__(self, store: EngineStore, report: Callable[[str], None] = log.info) -> None:
        self._store = store
        self._report = report

    def build(self, network: NetworkDefinition, config: BuilderConfig) -> Engine:
        """The engine of `network`, from the store where it has it.

        An engine file that doesn't fit is refused with a warning, and made anew where that is cheap or allowed.
        Raises ConfigError where the backend that `config` demands can't run the network, and what the network
        raises when it runs.
        """
        try:
            return _Build(self._store, self._report, network, config).engine()
        except StoreUnwritable as error:
            if config.compiles:
                raise
            log.warning("%s; the engine of '%s' is made again at each start", error, network.name)
        # a session has read its file when it is made
        with tempfile.TemporaryDirectory() as folder:
            return _Build(EngineStore(Path(folder)), self._report, network, config).engine()


class _Build:
    """One call of EngineBuilder.build."""

    def __init__(
        self, store: EngineStore, report: Callable[[str], None], network: NetworkDefinition, config: BuilderConfig
    ) -> None:
        self._store = store
        self._report = report
        self._network = network
        self._config = config
        self._identity = Identity(
            model=network.name,
            source=network.source,
            dtype=config.dtype,
            profile=config.profile,
            machine=Machine.of(config.device),
        )

    def engine(self) -> Engine:
        backend = self._config.backend
        if backend == EAGER:
            return self._engine(self._eager())
        if backend == AUTO:
            recommend(self._config.device)
        # no lock yet: replicas that start together read one manifest
        known = self._recorded(self._found(logging.DEBUG)) if backend == AUTO and not self._config.compiles else None
        if known is not None:
            return known
        with self._store.building(self._identity):
            manifest = self._found(logging.WARNING) or self._new_manifest()
            return self._chosen(manifest) if backend == AUTO else self._demanded(manifest, backend)

    def _found(self, level: int) -> Manifest | None:
        """The manifest of just this engine; one that is refused is told in the log at `level`."""
        try:
            return self._store.find(self._identity)
        except EngineRefused as error:
            log.log(level, "%s", error)
            return None

    def _new_manifest(self) -> Manifest:
        """An empty one; the log tells why what lies in the store is of no use, the last built above all."""
        for index, reason in enumerate(self._store.unfit(self._identity)):
            log.log(logging.DEBUG if index else logging.INFO, "not usable here: %s", reason)
        return Manifest(identity=self._identity)

    def _recorded(self, manifest: Manifest | None) -> Engine | None:
        """The engine that an earlier start or build chose, None where it must be chosen anew."""
        tactic = manifest.tactics.get(str(self._config.threads)) if manifest else None
        if manifest is None or tactic is None:
            return None
        tried = {*tactic.milliseconds, *tactic.failures}
        if not {*manifest.files} <= tried or (self._has_onnxruntime() and ONNXRUNTIME not in tried):
            return None
        try:
            programs = {
                backend: self._eager() if backend == EAGER else self._load(manifest, backend)
                for backend in tactic.backends
            }
            return self._engine(_combined(programs, tactic), tactic)
        except (EngineRefused, BackendUnavailable) as error:
            log.warning("%s", error)
            return None

    def _chosen(self, manifest: Manifest) -> Engine:
        """Measure all candidates, unless another process just did."""
        compiled = AOTINDUCTOR in manifest.files
        known = self._recorded(manifest) if compiled or not self._config.compiles else None
        if known is not None:
            return known
        backends = [AOTINDUCTOR] if compiled or self._config.compiles else []
        backends += [ONNXRUNTIME] if self._has_onnxruntime() else []
        programs: dict[str, Program] = {EAGER: self._eager()}
        failures: dict[str, str] = {}
        for backend in backends:
            try:
                manifest, programs[backend] = self._candidate(manifest, backend)
            except BackendUnavailable as error:
                failures[backend] = str(error)
        tactic = self._measured(manifest, programs, failures)
        chosen = [f"{backend} at batch {batch}" for batch, backend in tactic.choice.items()]
        self._report(
            f"model '{self._network.name}' runs with "
            + (tactic.backends[0] if len(tactic.backends) == 1 else ", ".join(chosen))
        )
        return self._engine(_combined(programs, tactic), tactic)

    def _demanded(self, manifest: Manifest, backend: str) -> Engine:
        try:
            manifest, program = self._candidate(manifest, backend)
            # whoever was timed before agreed with the eager outputs before
            if not any(backend in tactic.milliseconds for tactic in manifest.tactics.values()):
                tactic = self._measured(manifest, {EAGER: self._eager(), backend: program}, {})
                if backend in tactic.failures:
                    raise BackendUnavailable(tactic.failures[backend])
        except BackendUnavailable as error:
            if backend == AOTINDUCTOR and not self._config.compiles:
                log.warning("model '%s' runs eagerly: %s", self._network.name, error)
                return self._engine(self._eager())
            raise ConfigError(f"backend '{backend}': {error}") from error
        return self._engine(program)

    def _measured(self, manifest: Manifest, programs: Mapping[str, Program], failures: Mapping[str, str]) -> Tactic:
        """Compare and time `programs`, and keep what came of it beside `failures`, the ones that can't run."""
        with self._step(f"timing {', '.join(programs)}"):
            contexts = {name: self._engine(program).create_context() for name, program in programs.items()}
            tactic = measure(contexts, self._config.profile, self._config.dtype)
        tactic = replace(tactic, failures={**failures, **tactic.failures})
        self._store.save(manifest.with_tactic(self._config.threads, tactic))
        for line in describe(tactic):
            self._report(f"model '{self._network.name}': {line}")
        return tactic

    def _candidate(self, manifest: Manifest, backend: str) -> tuple[Manifest, Program]:
        """The program of an engine file, made first where it isn't there or is refused."""
        if backend in manifest.files:
            try:
                return manifest, self._load(manifest, backend)
            except (EngineRefused, BackendUnavailable) as error:
                log.warning("%s", error)
        manifest = self._make(manifest, backend)
        return manifest, self._load(manifest, backend)

    def _make(self, manifest: Manifest, backend: str) -> Manifest:
        network, config = self._network, self._config
        if backend == ONNXRUNTIME:
            check_available(config.device)
            with self._step("writing ONNX for onnxruntime"):
                return self._store.add_file(
                    manifest, backend, backend_version(backend), lambda path: network.save_onnx(config.profile, path)
                )
        if not config.compiles:
            raise BackendUnavailable(
                f"no AOTInductor engine was built for this machine; `stagemesh build {network.name}` does"
            )
        find_compiler()
        with self._step("compiling with AOTInductor, which takes a minute or so"):
            return self._store.add_file(
                manifest,
                backend,
                backend_version(backend),
                lambda path: compile_package(network.make_module(), config.profile, config.device, path),
            )

    def _load(self, manifest: Manifest, backend: str) -> Program:
        if backend == ONNXRUNTIME:
            check_available(self._config.device)
        path = self._store.verified(manifest, backend, backend_version(backend))
        return deserialize(backend, path, self._config.threads)

    def _engine(self, program: Program, tactic: Tactic | None = None) -> Engine:
        return Engine(program, self._config.profile, self._config.device, tactic)

    def _eager(self) -> EagerProgram:
        return EagerProgram(self._network.make_module())

    def _has_onnxruntime(self) -> bool:
        try:
            check_available(self._config.device)
        except BackendUnavailable:
            return False
        return True

    @contextmanager
    def _step(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        self._report(f"model '{self._network.name}': {text} ...")
        yield
        self._report(f"model '{self._network.name}': {text}: {time.monotonic() - began:.1f} s")


def describe(tactic: Tactic) -> Iterator[str]:
    """What was measured, in one line for each backend."""
    for backend, times in tactic.milliseconds.items():
        listed = ", ".join(f"batch {batch} {value:.2f} ms" for batch, value in times.items())
        yield f"{backend}: {listed}; deviation {tactic.errors.get(backend, 0.0):.0e}"
    for backend, reason in tactic.failures.items():
        yield f"{backend} is no candidate: {reason}"


def _combined(programs: Mapping[str, Program], tactic: Tactic) -> Program:
    if len(tactic.backends) == 1:
        return programs[tactic.backends[0]]
    return SizedProgram({int(batch): programs[backend] for batch, backend in tactic.choice.items()})
