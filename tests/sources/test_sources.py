"""Weights out of wheels and model folders, with wheels made here: nothing of this needs a network."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from stagemesh.errors import ConfigError
from stagemesh.sources import resolve

WEIGHTS = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
SOURCE = "pip:toy-weights==1.0!toy_weights/data/weights.pth"

RESOLVE_ONCE = """
import sys
from pathlib import Path
from stagemesh.sources import resolve
print(resolve(sys.argv[1], sys.argv[2], Path("."), Path(sys.argv[3])).read_bytes()[:4].hex())
"""

RESOLVE_IN_A_THREAD = """
import os, signal, sys, threading
from pathlib import Path
from stagemesh.sources import resolve
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
thread = threading.Thread(target=resolve, args=(sys.argv[1], sys.argv[2], Path("."), Path(sys.argv[3])))
thread.start()
thread.join()
"""


def write_wheel(folder: Path, content: bytes = WEIGHTS) -> Path:
    wheel = folder / "toy_weights-1.0-py3-none-any.whl"
    info = "toy_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy_weights/__init__.py", "raise SystemExit('a weights package was imported')")
        archive.writestr("toy_weights/data/weights.pth", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip sees; it holds the toy wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_wheel(folder)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr("stagemesh.wheels.subprocess.Popen", refuse)


def contents(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / SHA256).iterdir())


def test_a_file_of_a_wheel_lands_in_the_cache_and_nothing_else_does(index: Path, cache: Path) -> None:
    path = resolve(SOURCE, SHA256, cache, cache)
    assert path == cache / SHA256 / "weights.pth"
    assert path.read_bytes() == WEIGHTS
    assert contents(cache) == [".lock", "weights.pth"]
    assert "toy_weights" not in sys.modules


def test_the_cache_serves_offline(index: Path, cache: Path, request: pytest.FixtureRequest) -> None:
    first = resolve(SOURCE, SHA256, cache, cache)
    request.getfixturevalue("no_pip")
    assert resolve(SOURCE, SHA256.upper(), cache, cache) == first


def test_a_changed_cached_file_is_fetched_again(index: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = resolve(SOURCE, SHA256, cache, cache)
    path.write_bytes(b"half a fi")
    with caplog.at_level(logging.WARNING):
        assert resolve(SOURCE, SHA256, cache, cache).read_bytes() == WEIGHTS
    assert f"expected {SHA256}, found {hashlib.sha256(b'half a fi').hexdigest()}" in caplog.text


def test_a_wrong_checksum_names_both_and_leaves_no_file(index: Path, cache: Path) -> None:
    expected = "0" * 64
    with pytest.raises(ConfigError, match=f"expected {expected}, found {SHA256}"):
        resolve(SOURCE, expected, cache, cache)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [".lock"]


def test_a_missing_member_lists_similar_names(index: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file 'toy_weights/weights.pth'.*toy_weights/data/weights.pth"):
        resolve("pip:toy-weights==1.0!toy_weights/weights.pth", SHA256, cache, cache)


@pytest.mark.parametrize("content", [b"no wheel at all", b"PK\x05\x06" + bytes(18)])
def test_a_broken_wheel_is_a_config_error(index: Path, cache: Path, content: bytes) -> None:
    write_wheel(index).write_bytes(content)
    with pytest.raises(ConfigError, match=r"toy-weights==1\.0"):
        resolve(SOURCE, SHA256, cache, cache)


def test_an_unknown_version_gives_the_last_line_of_pip(index: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"No matching distribution found for toy-weights==2\.0"):
        resolve(SOURCE.replace("1.0", "2.0"), SHA256, cache, cache)


def test_an_index_out_of_reach_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ConfigError, match="could not be reached"):
        resolve(SOURCE, SHA256, cache, cache)


def test_a_python_without_pip_is_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2; exit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr("stagemesh.wheels.sys.executable", str(python))
    with pytest.raises(ConfigError, match="No module named pip"):
        resolve(SOURCE, SHA256, cache, cache)


def test_a_source_distribution_is_never_built(index: Path, cache: Path, tmp_path: Path) -> None:
    write_wheel(index).unlink()
    project, proof = tmp_path / "toy-weights-1.0", tmp_path / "ran"
    project.mkdir()
    (project / "setup.py").write_text(f"open({str(proof)!r}, 'w')")
    with tarfile.open(index / "toy-weights-1.0.tar.gz", "w:gz") as archive:
        archive.add(project, project.name)
    with pytest.raises(ConfigError, match="can't download a wheel"):
        resolve(SOURCE, SHA256, cache, cache)
    assert not proof.exists()


def test_a_pip_py_in_the_working_directory_is_not_run(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert resolve(SOURCE, SHA256, cache, cache).read_bytes() == WEIGHTS


def start_resolving(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RESOLVE_ONCE, SOURCE, SHA256, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def slow_down_pip(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Path:
    """Every Python below starts with a pause where it is pip's, and leaves a line in the file returned."""
    folder.mkdir()
    calls = folder / "calls"
    (folder / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'download' in sys.orig_argv:\n"
        f"    open({str(calls)!r}, 'a').write('x')\n"
        f"    time.sleep({seconds})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", ""), str(Path.cwd())]))
    return calls


def test_processes_that_start_together_fetch_once(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = slow_down_pip(tmp_path / "site", monkeypatch, 1.0)
    processes = [start_resolving(cache) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in outputs] == ["00010203\n"] * 3, outputs
    assert calls.read_text() == "x"


def test_a_fetch_killed_half_way_breaks_nothing(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = slow_down_pip(tmp_path / "site", monkeypatch, 2.0)
    process = start_resolving(cache)
    deadline = time.monotonic() + 30
    while not calls.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert any(name.startswith(".partial-") for name in contents(cache))
    assert not (cache / SHA256 / "weights.pth").exists()
    monkeypatch.delenv("PYTHONPATH")
    assert resolve(SOURCE, SHA256, cache, cache).read_bytes() == WEIGHTS
    assert contents(cache) == [".lock", "weights.pth"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_pip_ends_with_its_process(
    index: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    calls = slow_down_pip(tmp_path / "site", monkeypatch, 60.0)
    process = subprocess.Popen([sys.executable, "-c", RESOLVE_IN_A_THREAD, SOURCE, SHA256, str(cache)])
    deadline = time.monotonic() + 30
    while not calls.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (pip,) = psutil.Process(process.pid).children()
    assert "download" in pip.cmdline()
    process.send_signal(number)
    process.wait(10)
    gone, _ = psutil.wait_procs([pip], timeout=5)
    assert gone == [pip]


@pytest.mark.parametrize(
    "source",
    [
        "pip:toy-weights!weights.pth",
        "pip:toy-weights>=1.0!weights.pth",
        "pip:toy-weights==1.0",
        "pip:toy-weights==1.0!",
        "pip:toy-weights==1.0!..",
        "pip:toy-weights==1.0!a/../../weights.pth",
        "pip:toy-weights==1.0!/etc/passwd",
        "pip:--index-url==1.0!weights.pth",
        "pip:toy weights==1.0!weights.pth",
    ],
)
def test_a_malformed_package_source_is_refused(source: str, cache: Path, no_pip: None) -> None:
    with pytest.raises(ConfigError, match="expected a source like 'pip:name==version!path/in/package'"):
        resolve(source, SHA256, cache, cache)
    assert not cache.exists()


@pytest.mark.parametrize("sha256", ["", "abc", SHA256[:-1], SHA256 + "0", "g" * 64])
def test_a_package_file_needs_a_whole_checksum(sha256: str, cache: Path, no_pip: None) -> None:
    with pytest.raises(ConfigError, match="64 hex digits, found"):
        resolve(SOURCE, sha256, cache, cache)


def test_a_cache_that_cannot_be_written_is_named(index: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="a file"):
        resolve(SOURCE, SHA256, tmp_path, blocked)


def test_a_file_of_the_folder_is_checked_where_a_checksum_is_given(tmp_path: Path, no_pip: None) -> None:
    (tmp_path / "weights.pth").write_bytes(WEIGHTS)
    for sha256 in ("", SHA256):
        assert resolve("weights.pth", sha256, tmp_path, tmp_path) == tmp_path / "weights.pth"
    with pytest.raises(ConfigError, match=f"expected {'0' * 64}, found {SHA256}"):
        resolve("weights.pth", "0" * 64, tmp_path, tmp_path)


def test_a_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.pth").write_bytes(WEIGHTS)
    (folder / "link.pth").symlink_to(tmp_path / "secret.pth")
    for source in ("../secret.pth", str(tmp_path / "secret.pth"), "link.pth"):
        with pytest.raises(ConfigError, match="expected a file inside"):
            resolve(source, "", folder, tmp_path)


@pytest.mark.parametrize("source", ["nothing.pth", ".", ""])
def test_a_missing_file_of_the_folder_is_said(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the file"):
        resolve(source, "", tmp_path, tmp_path)


def test_leftovers_of_a_failed_try_are_cleared(index: Path, cache: Path) -> None:
    leftover = cache / SHA256 / ".partial-old"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"x")
    resolve(SOURCE, SHA256, cache, cache)
    assert not leftover.exists()
