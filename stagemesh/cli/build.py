"""`stagemesh build`: engines of models, compiled and timed ahead on this machine."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from stagemesh.cli.fetch import cache_folder
from stagemesh.cli.local.commands import find_checkout


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "build",
        help="build the engines of models ahead",
        description="Compile each model, time every backend that can run it here, and keep the engine in the cache, "
        "where services on this machine find it. Takes a minute or more a model. Needs a checkout.",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to build (default: all)")
    parser.add_argument("--repository", type=Path, default=Path("models"), metavar="DIR", help="(default: models)")
    parser.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="(default: auto)")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads to time with (default: all cores)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the builder of the infer service; its exit code."""
    command = [sys.executable, "-m", "services.infer.build", "--model-names", ",".join(args.models)]
    flags = {
        "--models": args.repository.resolve(),
        "--cache": args.cache.resolve(),
        "--device": args.device,
        "--threads": args.threads,
    }
    command += [str(part) for flag in flags.items() for part in flag]
    return subprocess.run(command, cwd=find_checkout(), check=False).returncode
