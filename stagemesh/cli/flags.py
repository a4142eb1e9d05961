"""Flags that several verbs share."""

from __future__ import annotations

import argparse
import os

from stagemesh.cli.local.ports import DEFAULT_BASE
from stagemesh.client.calls import DEFAULT_TARGET
from stagemesh.errors import ConfigError


def add_target(parser: argparse.ArgumentParser, otherwise: str = DEFAULT_TARGET) -> None:
    """`--target`; `target_of` or `named_target` reads it."""
    parser.add_argument(
        "--target",
        help=f"host:port or gRPC target of the gateway (default: $STAGEMESH_TARGET, else {otherwise})",
    )


def target_of(args: argparse.Namespace) -> str:
    """The flag, else the environment, else the gateway's port on this machine."""
    return named_target(args) or DEFAULT_TARGET


def named_target(args: argparse.Namespace) -> str:
    """The flag, else the environment, else nothing."""
    return str(args.target or os.environ.get("STAGEMESH_TARGET", ""))


def add_port_base(parser: argparse.ArgumentParser, more: str = "") -> None:
    """`--port-base`; `port_base_of` reads it."""
    parser.add_argument(
        "--port-base",
        type=int,
        help=f"all ports count from here{more} (default: $STAGEMESH_PORT_BASE, else {DEFAULT_BASE})",
    )


def port_base_of(args: argparse.Namespace) -> int:
    """The flag, else the environment, else 8000; raises ConfigError for a variable that is no number."""
    if args.port_base is not None:
        return int(args.port_base)
    text = os.environ.get("STAGEMESH_PORT_BASE") or str(DEFAULT_BASE)
    if not text.isdecimal():
        raise ConfigError(f"STAGEMESH_PORT_BASE: expected a whole number, found {text!r}")
    return int(text)


def add_replicas(parser: argparse.ArgumentParser) -> None:
    """`--replicas`, read by `ports.parse_replicas`."""
    parser.add_argument("--replicas", default="", metavar="SERVICE=N,…", help="as in infer=2,preprocess=1")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=f"{what}, for machines")
