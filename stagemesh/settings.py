"""Settings of a service: defaults < STAGEMESH_<FIELD> < --field-flags, on one frozen dataclass.

A field is written once, with `setting`: its type, default, help text and range give the environment
variable, the flag, the check and the line in `--help`.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from stagemesh.errors import ConfigError

PREFIX = "STAGEMESH_"
WILDCARD_HOSTS = ("0.0.0.0", "::", "[::]")

OTHER_NAMES = frozenset(
    {
        *("device", "threads"),  # infer
        *("redis_url", "redis_password_file", "redis_cluster", "redis_timeout_s", "redis_direct_url"),  # kvstore
        *("kv_namespace", "kv_capacity_mib", "kv_watermark", "kv_step", "kv_ttl_s", "kv_reserve_s", "kv_max_lease_s"),
        *("kv_quota_mib", "kv_quotas", "kv_max_keys", "kv_max_block_mib", "kv_tenant_secret_file"),
        *("target", "port_base", "kvstore_target"),  # the command line
    }
)
"""The <field> of each STAGEMESH_<FIELD> that is not in ServiceSettings. One environment may serve all
processes of the mesh, so a name that only another of them reads is no error; a test holds this set to
the settings classes of the services."""

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")

S = TypeVar("S", bound="ServiceSettings")


def setting(default: Any, help: str, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """Declare a field; a callable `default` is a factory, `minimum` and `maximum` are inclusive."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def default_cache() -> Path:
    """Return $XDG_CACHE_HOME/stagemesh, or ~/.cache/stagemesh where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stagemesh"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What every service can be told; a service's own settings subclass it."""

    stage: ClassVar[str] = "stage"

    host: str = setting("127.0.0.1", "address to listen on, gRPC and HTTP")
    port: int = setting(8001, "gRPC port; 0 picks a free one", minimum=0, maximum=65535)
    http_port: int = setting(8002, "port of /metrics, /livez and /readyz; 0 picks a free one", minimum=0, maximum=65535)
    models: Path = setting(Path("models"), "folder of the model repository")  # noqa: RUF009
    cache: Path = setting(default_cache, "folder for fetched model files")  # noqa: RUF009
    model_names: tuple[str, ...] = setting((), "models to serve, separated by commas; empty for all")
    replica: str = setting("", "name of this replica in errors and logs; empty for host:port")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level logged")
    log_format: Literal["human", "json"] = setting("human", "form of a log line")
    max_message_mib: int = setting(256, "largest message taken or sent, MiB", minimum=1, maximum=2047)
    max_in_flight: int = setting(512, "requests answered at once; more are refused", minimum=1)
    drain_s: float = setting(1.5, "seconds between NOT_SERVING and closing the port", minimum=0)
    max_connection_age_s: float = setting(30.0, "seconds until a client is made to reconnect", minimum=0.05)
    default_deadline_s: float = setting(60.0, "seconds given to a request without deadline", minimum=0.001)
    stream_idle_s: float = setting(300.0, "seconds a request stream may stay idle, then it is ended", minimum=0.001)
    workers: int = setting(0, "worker threads; 0 for one a core", minimum=0)
    preprocess_target: str = setting("", "gRPC target of the preprocess stage")
    infer_target: str = setting("", "gRPC target of the infer stage")
    postprocess_target: str = setting("", "gRPC target of the postprocess stage")

    @property
    def replica_name(self) -> str:
        """Name of this replica: `replica`, else host:port (the machine's name where host is a wildcard)."""
        host = socket.gethostname() if self.host in WILDCARD_HOSTS else self.host
        return self.replica or f"{host}:{self.port}"

    @property
    def max_message_bytes(self) -> int:
        """Largest message taken or sent, in bytes."""
        return self.max_message_mib << 20


MESH_NAMES = OTHER_NAMES | {spec.name for spec in fields(ServiceSettings)}
"""Every <field> of a STAGEMESH_<FIELD> that some process of the mesh reads."""


def load_settings(cls: type[S], argv: Sequence[str], env: Mapping[str, str]) -> S:
    """Build `cls` from its defaults, then `env`, then the flags of `argv` (without the program's name).

    Raises ConfigError for an unknown STAGEMESH_ name or flag and for a bad value, naming it. `--help`
    prints the flags and exits.
    """
    specs = {spec.name: spec for spec in fields(cls)}
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, text in _from_environment(env).items():
        if name in specs:
            values[name] = _parse(specs[name], types[name], text, PREFIX + name.upper())
    for name, text in _from_flags(cls, argv).items():
        values[name] = _parse(specs[name], types[name], text, _flag(name))
    return cls(**values)


def _from_environment(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable, text in env.items():
        if not variable.startswith(PREFIX) or _is_service_link(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in MESH_NAMES:
            near = difflib.get_close_matches(name, MESH_NAMES, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise ConfigError(f"unknown setting {variable} in the environment{hint}")
        found[name] = text
    return found


def _is_service_link(variable: str, text: str) -> bool:
    """Tell the variables Kubernetes sets for a Service whose name starts with stagemesh."""
    return bool(_SERVICE_LINK.search(variable)) or text.startswith(("tcp://", "udp://", "sctp://"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}")


def _from_flags(cls: type[ServiceSettings], argv: Sequence[str]) -> dict[str, str]:
    parser = _Parser(
        prog=f"services.{cls.stage}",
        description=f"Serve the {cls.stage} stage. Each flag can be set as {PREFIX}<FLAG> too.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    types = get_type_hints(cls)
    for spec in fields(cls):
        help_text = f"{spec.metadata['help']} (default: {_shown_default(spec)})".replace("%", "%%")
        if types[spec.name] is bool:
            parser.add_argument(_flag(spec.name), nargs="?", const="true", metavar="BOOL", help=help_text)
        else:
            parser.add_argument(_flag(spec.name), metavar=_metavar(types[spec.name]), help=help_text)
    return vars(parser.parse_args(argv))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return "NAME,…" if get_origin(kind) is tuple else str(kind.__name__).upper()


def _shown_default(spec: Field[Any]) -> str:
    default = spec.default_factory() if spec.default_factory is not MISSING else spec.default
    return "empty" if default in ("", ()) else str(default)


def _parse(spec: Field[Any], kind: Any, text: str, where: str) -> Any:
    try:
        value = _convert(kind, text.strip())
    except ValueError as error:
        raise ConfigError(f"{where}: expected {error}, found {text!r}") from None
    low, high = spec.metadata["minimum"], spec.metadata["maximum"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigError(f"{where}: expected {bounds}, found {text!r}")
    return value


def _convert(kind: Any, text: str) -> Any:
    """Return `text` as a `kind`; the ValueError's text says what was expected."""
    if get_origin(kind) is Literal:
        return _choice({choice: choice for choice in get_args(kind)}, text)
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is bool:
        truths = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return _choice(truths, text.lower())
    if kind is Path:
        if not text:
            raise ValueError("a path")
        return Path(text).expanduser()
    return text if kind is str else _number(kind, text)


def _choice(choices: Mapping[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError("one of " + ", ".join(choices))
    return choices[text]


def _number(kind: type[int] | type[float], text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None
