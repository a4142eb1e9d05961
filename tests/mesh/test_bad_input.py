"""Bad input gets its status and words that help, names where it was refused, and harms nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.mesh import bad_photos
from tests.mesh.bad_requests import ALL_BAD, COFFEE, Bad
from tests.mesh.processes import Mesh, ServiceProcess, running
from tests.mesh.wire import Refusal, infer, labels, photos, refusal

pytestmark = pytest.mark.xdist_group("mesh")

MIB = 1 << 20
REPLICA = r"127\.0\.0\.1:\d+"


def service(mesh: Mesh, stage: str) -> ServiceProcess:
    return mesh.infer[0] if stage == "infer" else getattr(mesh, stage)


def assert_still_serves(target: str) -> None:
    assert labels(infer(target, photos(COFFEE)))[0] == b"espresso"


def assert_refused(refused: Refusal, bad: Bad, request_id: str, replica: str = REPLICA) -> None:
    assert refused.code.name == bad.status, refused.details
    model = f"model '{bad.model}': " if bad.model else ""
    form = rf"{bad.stage}@{replica}: {model}.*{bad.words}.* \[request {request_id}\]"
    assert re.fullmatch(form, refused.details, re.DOTALL), refused.details
    assert refused.info is not None
    named = dict(refused.info.metadata)
    assert re.fullmatch(replica, named.pop("replica"))
    assert named == {"stage": bad.stage, "model": bad.model, "request_id": request_id}


@pytest.mark.parametrize("bad", ALL_BAD, ids=lambda bad: bad.name)
def test_bad_input_is_refused_in_words_and_the_mesh_goes_on(mesh: Mesh, bad: Bad) -> None:
    refused = refusal(service(mesh, bad.service).target, bad.message, "request-42")
    assert_refused(refused, bad, "request-42")
    assert_still_serves(mesh.target)


def test_a_request_without_an_id_is_given_one(mesh: Mesh) -> None:
    refused = refusal(mesh.target, photos(b"?"))
    assert refused.info is not None
    request_id = refused.info.metadata["request_id"]
    assert len(request_id) > 15
    assert refused.details.endswith(f" [request {request_id}]")


def test_huge_photos_are_refused_before_they_take_memory(mesh: Mesh) -> None:
    for photo in (bad_photos.black(30_000), bad_photos.header_only(60_000, 60_000), bad_photos.text_bomb(200 * MIB)):
        before = peak_bytes(mesh.preprocess)
        refusal(mesh.target, photos(photo))
        assert peak_bytes(mesh.preprocess) - before < 32 * MIB


def peak_bytes(process: ServiceProcess) -> int:
    """The most memory the process has ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("route", ["postprocess", "infer,infer", "nowhere", "", 5])
def test_a_route_from_a_client_is_dropped_by_the_gateway(mesh: Mesh, route: str | int) -> None:
    answer = infer(mesh.target, photos(COFFEE, parameters={"stagemesh_route": route, "top_k": 2}))
    assert labels(answer)[0] == b"espresso"
    assert len(labels(answer)) == 2
    assert not answer.parameters


@pytest.fixture(scope="module")
def narrow(mesh: Mesh) -> Iterator[ServiceProcess]:
    """A gateway to the shared mesh that takes messages of at most 1 MiB."""
    targets = {
        "preprocess_target": mesh.preprocess.ipv4,
        "infer_target": mesh.infer[0].ipv4,
        "postprocess_target": mesh.postprocess.ipv4,
    }
    gateway = ServiceProcess("gateway", max_message_mib=1, replica="narrow", **targets)
    with running(gateway):
        yield gateway


def test_the_replica_of_an_error_is_the_one_that_was_called(narrow: ServiceProcess) -> None:
    bad = Bad("wrong version", photos(COFFEE, version="x"), "expected a number", stage="gateway", model="classify")
    assert_refused(refusal(narrow.target, bad.message, "r"), bad, "r", replica="narrow")


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        (grpc.Compression.NoCompression, rf"larger than max \(671\d+ vs\. {MIB}\)"),
        (grpc.Compression.Gzip, "Decompressed message larger than max"),
    ],
)
def test_a_message_above_the_cap_is_refused_however_small_it_travels(
    narrow: ServiceProcess, compression: grpc.Compression, words: str
) -> None:
    before = peak_bytes(narrow)
    refused = refusal(narrow.target, photos(bytes(64 * MIB)), compression=compression)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert re.search(words, refused.details), refused.details
    assert peak_bytes(narrow) - before < 16 * MIB
    assert_still_serves(narrow.target)


def test_a_compressed_message_within_the_cap_is_taken(narrow: ServiceProcess) -> None:
    answer = infer(narrow.target, photos(COFFEE), compression=grpc.Compression.Gzip)
    assert labels(answer)[0] == b"espresso"
