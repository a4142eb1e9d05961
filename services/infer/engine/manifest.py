"""The manifest beside engine files: what they were built from and for, their checksums, and which is fastest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from services.infer.engine.machine import Machine, differences
from services.infer.engine.profile import OptimizationProfile
from stagemesh.errors import ConfigError
from stagemesh.tables import parse_table

FORMAT = 1
KEY_DIGITS = 16


class EngineRefused(ConfigError):
    """An engine file that must not be loaded here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an engine is made from and for; engines of equal identity can stand in for one another.

    `source` is the SHA-256, in hex, of everything that shapes the network: weights, code, options.
    """

    model: str
    source: str
    dtype: str
    profile: OptimizationProfile
    machine: Machine

    @property
    def key(self) -> str:
        """The name of the engine's folder in a cache."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.model}-{hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]}"

    def differences(self, wanted: Identity) -> Iterable[str]:
        """Each reason why an engine of this identity can't serve as one of `wanted`."""
        for name in ("model", "source", "dtype"):
            built, here = getattr(self, name), getattr(wanted, name)
            if built != here:
                yield f"{name}: built from {built!r}, expected {here!r}"
        if self.profile != wanted.profile:
            yield f"profile: built for {_describe(self.profile)}, expected {_describe(wanted.profile)}"
        yield from differences(self.machine, wanted.machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """One backend's file: its name in the folder, size in bytes, SHA-256 and the version of what wrote it."""

    name: str
    size: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tactic:
    """What was measured with one number of threads, and by batch size the `choice` of a backend.

    `milliseconds` holds for each backend the median time of a batch, by batch size; `failures` why a backend
    was no candidate; `errors` the largest deviation from the eager outputs, relative to their largest value.
    """

    choice: Mapping[str, str]
    milliseconds: Mapping[str, Mapping[str, float]]
    errors: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends that were chosen, each once."""
        return tuple(sorted(set(self.choice.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All of an engine folder: `files` by backend, `tactics` by the number of CPU threads."""

    identity: Identity
    files: Mapping[str, EngineFile] = field(default_factory=dict)
    tactics: Mapping[str, Tactic] = field(default_factory=dict)
    format: int = FORMAT

    def with_file(self, backend: str, file: EngineFile) -> Manifest:
        """The same with the file of `backend`; times measured without it no longer count."""
        return replace(self, files={**self.files, backend: file}, tactics={})

    def with_tactic(self, threads: int, tactic: Tactic) -> Manifest:
        """The same with what was measured with `threads` threads."""
        return replace(self, tactics={**self.tactics, str(threads): tactic})

    def check(self, wanted: Identity) -> None:
        """Raises EngineRefused naming each field in which the engine is not what is wanted here."""
        reasons = [] if self.format == FORMAT else [f"format: expected {FORMAT}, found {self.format}"]
        reasons += self.identity.differences(wanted)
        if reasons:
            raise EngineRefused(f"the engine of model '{self.identity.model}' is refused: {'; '.join(reasons)}")

    def write(self, path: Path) -> None:
        """As JSON to `path`."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """The manifest in the file `path`. Raises EngineRefused where it is not one."""
        try:
            content = json.loads(path.read_text())
            if not isinstance(content, dict):
                raise EngineRefused(f"{path}: expected a JSON object, found {type(content).__name__}")
            return parse_table(cls, content, str(path))
        except (OSError, ValueError) as error:
            raise EngineRefused(f"{path}: expected a manifest in JSON: {error}") from error
        except EngineRefused:
            raise
        except ConfigError as error:
            raise EngineRefused(str(error)) from error


def _describe(profile: OptimizationProfile) -> str:
    return ", ".join(
        f"'{wanted.name}' {wanted.dtype} {list(wanted.min)} to {list(wanted.max)}, best {list(wanted.opt)}"
        for wanted in profile.inputs
    )
