"""The `stagemesh` command.

Exit codes: 0 done; 1 something failed, as a sentence on stderr; 2 wrong usage or setup; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from stagemesh.cli import build, console, fetch, infer, kv, load, models, new, status, up
from stagemesh.errors import ConfigError, StagemeshError

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        code = int(args.run(args))
        # Here, where a reader that has gone can be told from a failure.
        sys.stdout.flush()
        return code
    except StagemeshError as error:
        console.err().print(f"stagemesh: {error}", soft_wrap=True)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter would fail once more when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, `run` being the verb's function; wrong ones end the process with exit code 2.

    After `up`, what follows `--` is a verb of its own, found parsed in `then`.
    """
    parser = _parser()
    own, _, follow_up = _split(argv)
    args = parser.parse_args(own)
    if follow_up:
        args.then = parser.parse_args(follow_up)
        if args.then.run is up.run:
            parser.error("after `up --`: expected another verb, found up")
    return args


def _split(argv: Sequence[str]) -> tuple[list[str], str, list[str]]:
    if argv and argv[0] == "up" and "--" in argv:
        at = list(argv).index("--")
        return list(argv[:at]), "--", list(argv[at + 1 :])
    return list(argv), "", []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stagemesh", description="A mesh of gRPC inference stages.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in (up, status, models, infer, fetch, load, new, build, kv):
        verb.add_parser(verbs)
    return parser
