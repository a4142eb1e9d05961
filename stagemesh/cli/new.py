"""`stagemesh new TASK NAME`: a model folder to fill in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from stagemesh.cli import console
from stagemesh.cli.templates import NewTask, model_files
from stagemesh.errors import ConfigError
from stagemesh.repository import check_name, read_model


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its flags."""
    parser = verbs.add_parser(
        "new",
        help="write a model folder to fill in, every key explained",
        description="Write a folder with a model.toml that explains every key, and, for the task custom, plug-ins.",
    )
    parser.add_argument("task", metavar="TASK", choices=get_args(NewTask), help=", ".join(get_args(NewTask)))
    parser.add_argument("name", metavar="NAME", help="the name of the model, and of its folder")
    parser.add_argument("--repository", type=Path, default=Path("models"), metavar="DIR", help="(default: models)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the folder, and say what to do next."""
    folder = write_model(args.task, args.repository, args.name)
    out = console.out()
    for path in sorted(folder.iterdir()):
        out.print(path, soft_wrap=True)
    out.print(
        f"next: put the network into {folder} as the key `source` of model.toml says, set `outputs`, "
        f"then `stagemesh load {folder.name}`",
        soft_wrap=True,
    )
    return 0


def write_model(task: NewTask, repository: Path, name: str) -> Path:
    """Write the folder of a new model, which `read_model` accepts; its path.

    Raises ConfigError for a name that is none, a repository that is no folder, and a folder that is there already.
    """
    check_name(name, f"model name {name!r}")
    if not repository.is_dir():
        raise ConfigError(f"model repository: expected a folder, found none at {repository}")
    folder = repository / name
    try:
        folder.mkdir()
        for file, text in model_files(task, name).items():
            (folder / file).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise ConfigError(f"{folder}: expected no such folder yet, found one") from None
    except OSError as error:
        raise ConfigError(f"{folder}: can't be written: {error.strerror or error}") from error
    read_model(folder)
    return folder
