"""The models of one server by name: loading, ready, on their way out, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from stagemesh.errors import InvalidInput, Unavailable, UnknownModel
from stagemesh.stage.model import ServedModel

UNLOADED = "unloaded"
"""The reason of a model that was asked to go."""


class State(Enum):
    """The states of RepositoryIndex."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the table; `model` is there once it is READY.

    `kept` is the model of an earlier generation, for the requests that other stages have sent on their way with it.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None
    kept: ServedModel | None = None

    def served(self, generation: object = "") -> ServedModel:
        """The model of that generation where it is still here, else the newest, ready to be called.

        Raises Unavailable with the reason while there is none.
        """
        if self.kept is not None and self.kept.generation == generation:
            return self.kept
        if self.model is None:
            why = self.reason or ("it is still loading" if self.state is State.LOADING else "it is being unloaded")
            raise Unavailable(f"model '{self.name}' is not ready: {why}", reason=f"MODEL_{self.state.value}")
        return self.model

    def models(self) -> list[ServedModel]:
        """Those that are here, the newest first."""
        return [model for model in (self.model, self.kept) if model is not None]


class ModelTable:
    """What a servicer looks models up in, and what a Lifecycle changes.

    A change gives back the models that are offered no longer, for its caller to close.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def loading(self, name: str, version: str) -> None:
        """Announce a model that is on its way, where none is served under its name."""
        if self.current(name) is None:
            self._entries[name] = Entry(name, version, State.LOADING)

    def current(self, name: str) -> ServedModel | None:
        """What is served under a name, if anything is."""
        entry = self._entries.get(name)
        return entry.model if entry else None

    def ready(self, model: ServedModel, keep: str = "") -> list[ServedModel]:
        """Offer a model; of those before it the one of generation `keep` stays at hand."""
        before = self._entries[model.name].models() if model.name in self._entries else []
        wanted = keep if keep != model.generation else ""
        kept = next((old for old in before if wanted and old.generation == wanted), None)
        self._entries[model.name] = Entry(model.name, model.version, State.READY, model=model, kept=kept)
        return [old for old in before if old is not kept]

    def refuse(self, name: str, version: str, reason: str) -> None:
        """Keep the name, with why it is not served; what is served under it stays."""
        if self.current(name) is None:
            self._entries[name] = Entry(name, version, State.UNAVAILABLE, reason)

    def release(self, name: str, generation: str) -> list[ServedModel]:
        """Keep the model of this generation no longer. Raises UnknownModel."""
        entry = self.entry(name)
        if entry.kept is None or entry.kept.generation != generation:
            return []
        self._entries[name] = replace(entry, kept=None)
        return [entry.kept]

    def unloading(self, name: str) -> list[ServedModel]:
        """Offer nothing under a name any more. Raises UnknownModel."""
        entry = self.entry(name)
        self._entries[name] = Entry(name, entry.version, State.UNLOADING)
        return entry.models()

    def unloaded(self, name: str) -> None:
        """Say that what was on its way out is gone. Raises UnknownModel."""
        self._entries[name] = Entry(name, self.entry(name).version, State.UNAVAILABLE, UNLOADED)

    def entry(self, name: str, version: str = "") -> Entry:
        """The entry of a model and version ("" is the one there is).

        Raises InvalidInput for a version that is no number, UnknownModel when there is none such.
        """
        if version and not (version.isascii() and version.isdecimal()):
            raise InvalidInput(f"model version: expected a number or nothing, found '{version[:40]}'")
        entry = self._entries.get(name)
        if entry is None:
            known = ", ".join(sorted(self._entries)) or "none"
            raise UnknownModel(f"Request for unknown model: '{name[:80]}' is not found, expected one of: {known}")
        if version and version != entry.version:
            raise UnknownModel(
                f"Request for unknown model: '{name}' version {version} is not found, expected version {entry.version}",
                reason="UNKNOWN_VERSION",
            )
        return entry

    async def close(self) -> None:
        """Close every model."""
        for entry in self._entries.values():
            for model in entry.models():
                await model.close()
