"""The life of a server's models: loaded at the start; then loaded, replaced and unloaded when asked.

A load makes the new model beside the one that is served, then switches; the old one is closed once the
requests it has are answered. One change of a model is under way at a time.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from dataclasses import replace
from typing import Protocol

from stagemesh.errors import ConfigError, StagemeshError
from stagemesh.repository import ModelFolder, find_model, read_model, read_repository
from stagemesh.rpc.context import call_context, call_model
from stagemesh.stage.house import House
from stagemesh.stage.model import ServedModel
from stagemesh.stage.model_table import State

log = logging.getLogger(__name__)

UNREAD_VERSION = "1"
"""The version shown for a folder whose model.toml could not be read."""


class ModelMaker(Protocol):
    """What a service serves, and how it makes it of a model's folder."""

    def serves(self, folder: ModelFolder) -> bool:
        """Whether the service has a part in this model; the others are passed over at the start."""
        ...

    async def make(self, house: House, folder: ModelFolder) -> ServedModel:
        """A model that is warm. Raises ConfigError."""
        ...


class Lifecycle:
    """Changes the models of one server. Errors leave what was served before in service.

    `ready` is set once the models of the repository are loaded and what there is to serve is served: each model of
    the settings, or where they name none at least one of those there are. It stays set.
    """

    def __init__(self, house: House, maker: ModelMaker) -> None:
        self.ready = asyncio.Event()
        self.house = house
        self._maker = maker
        self._filled = False
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def fill(self) -> None:
        """Load the models of the repository one after the other; one that can't be is refused with the reason.

        Raises ConfigError where there is no repository, or a model of the settings is not in it.
        """
        settings, table = self.house.settings, self.house.table
        folders = self._readable(read_repository(settings.models, settings.model_names))
        for folder in folders:
            table.loading(folder.name, folder.version)
        for folder in folders:
            async with self._locks[folder.name]:
                # unless a client's load was first
                if table.entry(folder.name).state is State.LOADING:
                    await self._fill_one(folder)
        self._filled = True
        self._note_ready()

    def missing(self) -> list[str]:
        """The models that keep the server from being ready."""
        names = self.house.settings.model_names
        wanted = [entry for entry in self.house.table if not names or entry.name in names]
        missing = [entry.name for entry in wanted if entry.model is None]
        return missing if names or len(missing) == len(wanted) else []

    async def load(self, name: str, keep: str = "") -> None:
        """Read the model's folder again and serve it; returns once requests go to it.

        The model of generation `keep` stays at hand for requests that ask for it, until `release`. Where the caller
        gives up, the load goes on. Raises UnknownModel, ConfigError.
        """
        find_model(self.house.settings.models, name)
        call_model.set(name)
        await self._to_the_end(self._load(name, keep))

    async def unload(self, name: str) -> None:
        """Refuse new requests to a model; returns once those it has are answered. Raises UnknownModel."""
        call_model.set(self.house.table.entry(name).name)
        await self._to_the_end(self._unload(name))

    async def release(self, name: str, generation: str) -> None:
        """End the model of `generation` that a load kept, if there is one. Raises UnknownModel."""
        call_model.set(self.house.table.entry(name).name)
        self._start(self._end(self.house.table.release(name, generation)))

    async def close(self) -> None:
        """Close every model; no request is under way any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.house.table.close()

    async def prepare(self, folder: ModelFolder, generation: str) -> None:
        """Called before `folder` is made; `generation` is what is served under its name, "" for nothing."""

    async def settle(self, name: str, generation: str) -> None:
        """Called once a model that was replaced has answered its last request."""

    async def withdraw(self, name: str) -> None:
        """Called once a model that is unloaded has answered its last request."""

    def _readable(self, repository: Mapping[str, ModelFolder | ConfigError]) -> list[ModelFolder]:
        """The folders to load; those that can't be read are refused in the table."""
        folders = []
        for name, folder in repository.items():
            if isinstance(folder, ConfigError):
                log.error("model '%s' is not served: %s", name, folder)
                self.house.table.refuse(name, UNREAD_VERSION, str(folder))
            elif self._maker.serves(folder):
                folders.append(folder)
        return folders

    async def _fill_one(self, folder: ModelFolder) -> None:
        try:
            self.house.table.ready(await self._make(folder))
        except ConfigError as error:
            log.error("model '%s' is not served: %s", folder.name, error)
            self.house.table.refuse(folder.name, folder.version, str(error))

    async def _make(self, folder: ModelFolder) -> ServedModel:
        try:
            return await self._maker.make(self.house, folder)
        except ConfigError:
            raise
        except Exception as error:  # whatever one model's load runs into, the server and its other models live
            log.exception("model '%s' can't be loaded", folder.name)
            raise ConfigError(f"{folder.path}: loading raised {type(error).__name__}: {error}") from error

    async def _load(self, name: str, keep: str) -> None:
        table = self.house.table
        async with self._locks[name]:
            old, version = table.current(name), UNREAD_VERSION
            try:
                folder = await asyncio.to_thread(read_model, find_model(self.house.settings.models, name))
                version = folder.version
                table.loading(name, version)
                await self.prepare(folder, old.generation if old else "")
                model = await self._make(folder)
            except Exception as error:
                table.refuse(name, version, str(error) if isinstance(error, StagemeshError) else repr(error))
                if old and isinstance(error, ConfigError):
                    raise ConfigError(f"{error}; version {old.version} stays in service") from error
                raise
            self._start(self._replaced(name, table.ready(model, keep)))
            log.info("model '%s' version %s is served", name, model.version)
            self._note_ready()

    def _note_ready(self) -> None:
        if self._filled and not self.missing():
            self.ready.set()

    async def _replaced(self, name: str, models: list[ServedModel]) -> None:
        generations = [model.generation for model in models]
        await self._end(models)
        for generation in generations:
            await self.settle(name, generation)

    async def _unload(self, name: str) -> None:
        async with self._locks[name]:
            try:
                await self._end(self.house.table.unloading(name))
                await self.withdraw(name)
            finally:
                self.house.table.unloaded(name)
            log.info("model '%s' is unloaded", name)

    async def _end(self, models: list[ServedModel]) -> None:
        """Close models, which nothing else holds, as soon as each has answered its requests."""
        if not models:
            return
        while models:
            await models[-1].idle()
            await models.pop().close()
        # A network's modules refer to one another: only a full collection frees its weights.
        await asyncio.to_thread(gc.collect)

    async def _to_the_end(self, work: Coroutine[None, None, None]) -> None:
        await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` in the name of the current call, but beyond its deadline and its caller's patience."""
        context = copy_context()
        if call := call_context.get():
            context.run(call_context.set, replace(call, deadline=None))
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("a change of a model ended with %s: %s", type(error).__name__, error)
