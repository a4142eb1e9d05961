"""The model repository: one folder a model, described by its model.toml.

`[model]` belongs to this module; every other table belongs to the stage of that name, which checks it with
`parse_table` and ignores the rest. Files that model.toml names must lie inside the model's folder.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from stagemesh.errors import ConfigError, UnknownModel
from stagemesh.tables import check_range, parse_table

__all__ = [
    "Batching",
    "ModelFolder",
    "check_name",
    "find_model",
    "inside",
    "parse_table",
    "read_model",
    "read_repository",
    "split_batching",
]

MODEL_FILE = "model.toml"
Task = Literal["classify", "detect", "segment", "pose", "generate", "custom"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class ModelFolder:
    """One model: `tables` holds every table of model.toml but [model], still unchecked; `labels` in index order.

    `digest` is that of model.toml and the folder's Python files, which decide whether two stages fit one another.
    """

    name: str
    path: Path
    task: Task
    labels: tuple[str, ...]
    tables: Mapping[str, Mapping[str, object]]
    version: str = "1"
    digest: str = ""

    def table(self, name: str) -> Mapping[str, object]:
        """The table of the stage `name`; ConfigError where model.toml has none."""
        if name not in self.tables:
            found = ", ".join(f"[{known}]" for known in ("model", *self.tables))
            raise ConfigError(f"{self.where(name)}: expected this table, found only {found}")
        return self.tables[name]

    def where(self, table: str) -> str:
        """How messages name a table: file, then [table]."""
        return f"{self.path / MODEL_FILE} [{table}]"


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How a stage batches and queues one model; keys that every stage's table may have.

    `max_batch` is both the largest request accepted and the largest batch formed; its default fits the photos of a
    stage that runs them one by one as well as a network. With `queue_delay_us` 0 nothing waits for company: only what
    is queued already is merged. `queue_timeout_us` 0: a request waits until its deadline. `instances` 0: the stage
    decides how many batches run at once.
    """

    max_batch: int = 16
    queue_delay_us: int = 0
    preferred_batch: tuple[int, ...] = ()
    max_queue: int = 128
    queue_timeout_us: int = 0
    instances: int = 0

    def __post_init__(self) -> None:
        check_range("max_batch", self.max_batch, 1, 1024)
        check_range("queue_delay_us", self.queue_delay_us, 0, 10_000_000)
        check_range("max_queue", self.max_queue, 1, 100_000)
        check_range("queue_timeout_us", self.queue_timeout_us, 0, 3_600_000_000)
        check_range("instances", self.instances, 0, 64)
        for size in self.preferred_batch:
            check_range("preferred_batch", size, 1, self.max_batch)


@dataclass(frozen=True, kw_only=True)
class _ModelTable:
    """The keys of [model]."""

    task: Task
    labels: str = ""
    version: str = "1"

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"key 'version': expected a whole number such as \"2\", found {self.version!r}")


def split_batching(table: Mapping[str, object], where: str) -> tuple[Batching, dict[str, object]]:
    """Take the batching keys out of a stage's table: (Batching, the remaining keys)."""
    names = {field.name for field in fields(Batching)}
    batching = parse_table(Batching, {key: value for key, value in table.items() if key in names}, where)
    return batching, {key: value for key, value in table.items() if key not in names}


def check_name(name: str, where: str) -> None:
    """Raises ConfigError for a name that no model's folder may have."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: expected a folder name of the form {_NAME.pattern}, found {name!r}")


def inside(folder: Path, relative: str, where: str) -> Path:
    """The existing file `relative` of `folder`; ConfigError where it is missing or, links followed, lies outside."""
    try:
        path = (folder / relative).resolve()
        escapes = not path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        raise ConfigError(f"{where}: can't follow '{relative}': {error}") from error
    if escapes:
        raise ConfigError(f"{where}: expected a file inside {folder}, found '{relative}', which leads to {path}")
    if not path.is_file():
        raise ConfigError(f"{where}: expected the file '{relative}' in {folder}, found none")
    return path


def read_model(path: Path) -> ModelFolder:
    """Read and check one model's folder, the tables of the stages left unchecked. Raises ConfigError."""
    name = path.resolve().name if path.name in ("", "..") else path.name
    check_name(name, str(path))
    tables = _read_tables(path)
    where = f"{path / MODEL_FILE} [model]"
    if "model" not in tables:
        raise ConfigError(f"{where}: expected this table, found only {', '.join(f'[{t}]' for t in tables) or 'none'}")
    model = parse_table(_ModelTable, tables.pop("model"), where)
    labels = _read_labels(path, model.labels, f"{where}: key 'labels'") if model.labels else ()
    return ModelFolder(name, path, model.task, labels, tables, model.version, _digest(path))


def read_repository(path: Path, names: Sequence[str] = ()) -> dict[str, ModelFolder | ConfigError]:
    """Read the models of a repository, or those in `names`, by name; a bad model's value is its error.

    Folders whose names start with "." or "_" are no models. Raises ConfigError where the repository can't be read or
    lacks one of `names`.
    """
    folders = _model_folders(path)
    missing = [name for name in names if name not in folders]
    if missing:
        known = ", ".join(folders) or "none"
        raise ConfigError(f"{path}: unknown model {', '.join(map(repr, missing))}; known models: {known}")
    return {name: _read_or_error(folders[name]) for name in (names or folders)}


def find_model(repository: Path, name: str) -> Path:
    """The folder of the model `name`. Raises UnknownModel, and ConfigError where the repository can't be read."""
    folders = _model_folders(repository)
    if name not in folders:
        known = ", ".join(folders) or "none"
        raise UnknownModel(f"no folder '{name[:80]}' in the model repository {repository}, expected one of: {known}")
    return folders[name]


def _model_folders(path: Path) -> dict[str, Path]:
    try:
        return {entry.name: entry for entry in sorted(path.iterdir()) if _is_model_folder(entry)}
    except OSError as error:
        raise ConfigError(f"{path}: expected a folder of models: {error.strerror or error}") from error


def _is_model_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith((".", "_"))


def _read_or_error(path: Path) -> ModelFolder | ConfigError:
    try:
        return read_model(path)
    except ConfigError as error:
        return error


def _read_tables(folder: Path) -> dict[str, dict[str, object]]:
    file = folder / MODEL_FILE
    text = _read_text(inside(folder, MODEL_FILE, str(folder)), str(file))
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: expected TOML: {error}") from error
    for key, value in tables.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: expected only tables at the top level, found the key '{key}'")
    return tables


def _read_labels(folder: Path, relative: str, where: str) -> tuple[str, ...]:
    labels = _read_text(inside(folder, relative, where), where).removesuffix("\n").split("\n")
    labels = [label.strip() for label in labels]
    if "" in labels:
        line = labels.index("") + 1
        raise ConfigError(f"{where}: expected a label on each line of '{relative}', found line {line} empty")
    return tuple(labels)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in (folder / MODEL_FILE, *sorted(folder.rglob("*.py"))):
        try:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        except OSError as error:
            raise ConfigError(f"{folder}: can't read {path.name}: {error.strerror or error}") from error
    return digest.hexdigest()[:16]


def _read_text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{where}: can't read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: expected UTF-8 text in {path}: {error}") from error
