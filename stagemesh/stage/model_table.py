"""The models of one server by name: loading, ready, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from stagemesh.errors import InvalidInput, Unavailable, UnknownModel
from stagemesh.stage.model import ServedModel


class State(Enum):
    """The states of RepositoryIndex."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the table; `model` is there once it is READY."""

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None

    def served(self) -> ServedModel:
        """The model, ready to be called. Raises Unavailable with the reason while it is not ready."""
        if self.model is None:
            why = self.reason or "it is still loading"
            raise Unavailable(f"model '{self.name}' is not ready: {why}", reason=f"MODEL_{self.state.value}")
        return self.model


class ModelTable:
    """What a servicer looks models up in, and what loading fills."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def loading(self, name: str, version: str) -> None:
        """Announce a model that is on its way."""
        self._entries[name] = Entry(name, version, State.LOADING)

    def ready(self, model: ServedModel) -> None:
        """Offer a model."""
        self._entries[model.name] = Entry(model.name, model.version, State.READY, model=model)

    def refuse(self, name: str, version: str, reason: str) -> None:
        """Keep the name, with why it is not served."""
        self._entries[name] = Entry(name, version, State.UNAVAILABLE, reason)

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
            if entry.model is not None:
                await entry.model.close()
