"""Writes what is generated of the .proto files: `python protos/generate.py [--check]`.

Each protos/a/b.proto gives a/b_pb2.pyi, and a/b_pb2.py or, for a protocol whose package others register too, a
FileDescriptorSet a/b.binpb that a module of ours loads. With --check nothing is written, and the exit status is 1
where a committed file differs from what would be.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent
# The protocols whose descriptors live in a pool of their own.
APART = {Path("stagemesh/oip/open_inference.proto")}
# protoc leaves its Mapping arguments bare.
STUB_HEAD = '# mypy: disable-error-code="type-arg"\n'
# What the loading module adds to protoc's names.
STUB_TAIL = """
from google.protobuf import descriptor_pool as _descriptor_pool
POOL: _descriptor_pool.DescriptorPool
"""


def compile_proto(proto: Path, out: Path) -> dict[Path, bytes]:
    """What `proto`, a path below PROTOS, generates, by path below ROOT; `out` is an empty scratch folder."""
    binpb, module, stub = (proto.with_name(proto.stem + end) for end in (".binpb", "_pb2.py", "_pb2.pyi"))
    apart = proto in APART
    code = [f"--descriptor_set_out={out / 'set'}", "--include_imports"] if apart else [f"--python_out={out}"]
    status = protoc.main(["protoc", f"-I{PROTOS}", *code, f"--pyi_out={out}", str(PROTOS / proto)])
    if status:
        raise SystemExit(f"protoc failed on {proto} with status {status}")
    types = f"{STUB_HEAD}{(out / stub).read_text()}{STUB_TAIL if apart else ''}".encode()
    if apart:
        return {binpb: (out / "set").read_bytes(), stub: types}
    return {module: (out / module).read_bytes(), stub: types}


def generated() -> dict[Path, bytes]:
    """Every generated file of the repository: path relative to ROOT, and content."""
    files: dict[Path, bytes] = {}
    for path in sorted(PROTOS.rglob("*.proto")):
        with tempfile.TemporaryDirectory() as out:
            files |= compile_proto(path.relative_to(PROTOS), Path(out))
    return files


def differs(path: Path, content: bytes) -> bool:
    """Whether the committed file is missing or holds something else."""
    return not path.exists() or path.read_bytes() != content


def main(argv: list[str]) -> int:
    """The exit status; names each file written or, with --check, found stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args(argv).check
    stale = {path: content for path, content in generated().items() if differs(ROOT / path, content)}
    for path, content in stale.items():
        if not check:
            (ROOT / path).write_bytes(content)
        print(f"{path}: {'differs from its .proto, run make protos' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
