"""Where a Redis server listens and how to sign in, in the URL forms that redis-py takes too."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from stagemesh.errors import ConfigError

DEFAULT_PORT = 6379

_FORMS = "redis://[user:password@]host[:port][/db], rediss://… or unix://[user:password@]/path[?db=0]"
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_FLAGS = ("ssl_cert_reqs", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """How to speak TLS: PEM files, and whether the server's certificate and host name are checked."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """A client's context; ConfigError where a file can't be read."""
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
        except OSError as error:
            raise ConfigError(f"TLS to Redis: can't load {self.ca!r}, {self.certificate!r}: {error}") from error
        context.check_hostname = self.verify and self.check_hostname
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server: host and port, or `path` of a unix socket. The password never shows in repr or str."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: TlsFiles | None = None

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read a URL; ConfigError, without the password, where it has another form."""
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            return _address(parts, options)
        except (ValueError, KeyError) as error:
            raise ConfigError(f"Redis URL: expected {_FORMS}; {error}") from None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> RedisAddress:
        """Another server of the same cluster: the same user and TLS."""
        return replace(self, host=host, port=port, path="")


def _address(parts: SplitResult, options: dict[str, str]) -> RedisAddress:
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"found the scheme {parts.scheme!r}")
    unix = parts.scheme == "unix"
    if unix and not parts.path:
        raise ValueError("found no path")
    db = options.pop("db", "0" if unix else parts.path.strip("/") or "0")
    tls = _tls(options) if parts.scheme == "rediss" else None
    if options:
        raise ValueError(f"found the unknown option {next(iter(options))!r}")
    return RedisAddress(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or DEFAULT_PORT,
        path=unquote(parts.path) if unix else "",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=int(db),
        tls=tls,
    )


def _tls(options: dict[str, str]) -> TlsFiles:
    ca, certificate, key = (options.pop(name, "") for name in _TLS_FILES)
    verify, check = (options.pop(name, "true").lower() not in ("none", "false", "no", "0") for name in _TLS_FLAGS)
    return TlsFiles(ca, certificate, key, verify, check)
