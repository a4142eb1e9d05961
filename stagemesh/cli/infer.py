"""`stagemesh infer MODEL FILE…`: photos to a model, several at once."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stagemesh.cli import console, flags, pictures
from stagemesh.cli.answers import Answer, show, to_json
from stagemesh.client import Client, InferResult
from stagemesh.client.calls import DEFAULT_DEADLINE_S
from stagemesh.draw import draw, save
from stagemesh.errors import StagemeshError
from stagemesh.oip.tensors import Parameter

_CONCURRENCY = 4


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "infer",
        help="run a model on photos",
        description="Send each photo file to a model and show what it answers. A file that fails is "
        "reported, the others are answered all the same, and the exit code is 1.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("files", metavar="FILE", nargs="+", type=_existing_file)
    flags.add_target(parser)
    flags.add_json(parser, "one JSON line a file")
    pictures.add_flags(parser)
    parser.add_argument("--top-k", type=_positive, metavar="K", help="how many classes, or objects, to answer")
    parser.add_argument(
        "-p", "--parameter", type=_parameter, action="append", default=[], metavar="NAME=VALUE",
        help="a request parameter, as in score_threshold=0.3 or crop=0,0,200,100; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--concurrency", type=_positive, default=_CONCURRENCY, metavar="N", help="requests in flight at once"
    )
    parser.add_argument(
        "--deadline", type=_seconds, default=DEFAULT_DEADLINE_S, metavar="S", help="seconds for each request"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answer file after file in the order given; 0 when all were answered."""
    out, err = console.out(), console.err()
    places = pictures.pictures_of(args)
    failed = 0
    with Client(flags.target_of(args), deadline_s=args.deadline) as client:
        for answer in _with_progress(_answers(client, args, places), len(args.files), out if out.is_terminal else err):
            failed += not answer.ok
            _print(answer, as_json=args.json, out=out, err=err)
    if failed and len(args.files) > 1:
        err.print(f"stagemesh: {failed} of {len(args.files)} files failed")
    return 1 if failed else 0


def _answers(client: Client, args: argparse.Namespace, places: Sequence[Path | None]) -> Iterator[Answer]:
    parameters: dict[str, Parameter] = dict(args.parameter)
    if args.top_k:
        parameters["top_k"] = args.top_k

    def ask(path: Path, picture: Path | None) -> Answer:
        started = time.perf_counter()
        seconds = 0.0
        outcome: InferResult | StagemeshError | OSError
        try:
            outcome = client.infer_image(args.model, path, parameters=parameters)
            seconds = time.perf_counter() - started
            if picture:
                save(draw(path, outcome), picture)
        except (StagemeshError, OSError) as error:
            outcome = error
        return Answer(path, seconds or time.perf_counter() - started, outcome, picture)

    pool = ThreadPoolExecutor(args.concurrency)
    try:
        yield from pool.map(ask, args.files, places)
    finally:
        # After an interruption calls are still under way: closing the client ends them, so don't wait here.
        pool.shutdown(wait=False, cancel_futures=True)


def _with_progress(answers: Iterator[Answer], total: int, bar_on: Console) -> Iterator[Answer]:
    """The answers, counted by a bar that goes away; none for a single file or off a terminal."""
    columns = (TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    quiet = total == 1 or not bar_on.is_terminal
    with Progress(*columns, console=bar_on, transient=True, disable=quiet, redirect_stdout=False) as progress:
        yield from progress.track(answers, total=total)


def _print(answer: Answer, *, as_json: bool, out: Console, err: Console) -> None:
    if as_json:
        print(json.dumps(to_json(answer)), flush=True)
    elif isinstance(answer.outcome, InferResult):
        show(out, answer.path, answer.seconds, answer.outcome)
        if answer.picture:
            out.print(f"drawn: {answer.picture}", soft_wrap=True, highlight=False)
    else:
        err.print(f"stagemesh: {answer.path}: {answer.outcome}", soft_wrap=True)


def _existing_file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    return path


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def _parameter(text: str) -> tuple[str, Parameter]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    if value in ("true", "false"):
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text!r}")
    return seconds
