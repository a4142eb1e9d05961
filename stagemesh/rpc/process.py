"""The process of a service from start to end: settings, logs, a server, work beside it, and the exit."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import NoReturn, TypeVar

from stagemesh.errors import ConfigError
from stagemesh.logs import configure_logging
from stagemesh.rpc.context import Identity
from stagemesh.rpc.server import Server
from stagemesh.settings import ServiceSettings, load_settings

EXIT_CONFIG = 2

S = TypeVar("S", bound=ServiceSettings)

Main = Callable[[Identity, S], Coroutine[None, None, None]]
Work = Callable[[], Coroutine[None, None, None]]


def run_process(settings_class: type[S], main: Main[S]) -> int:
    """Run `main` in an event loop, then end the process; returns an exit code where it could not serve.

    Settings come from the environment and the command line. A ConfigError, of a port in use for one, is one
    sentence on stderr and exit code 2.
    """
    try:
        settings = load_settings(settings_class, sys.argv[1:], os.environ)
        identity = Identity.of(settings)
        configure_logging(settings.log_level, settings.log_format, identity.stage, identity.replica)
        asyncio.run(_run(lambda: main(identity, settings)))
    except ConfigError as error:
        print(f"{settings_class.stage}: {error}", file=sys.stderr)
    return EXIT_CONFIG


async def serve(server: Server, filling: Work, beside: Sequence[Work], close: Callable[[], Awaitable[None]]) -> None:
    """Serve until a signal; then `close`. What `filling` raises, before or after it is ready, ends the service.

    Work `beside` is cancelled at the end, and never looked at.
    """
    await server.start()
    fill, serving = asyncio.create_task(filling()), asyncio.create_task(server.serve_until_signal())
    helpers = [asyncio.create_task(work()) for work in beside]
    try:
        done, _ = await asyncio.wait([fill, serving], return_when=asyncio.FIRST_COMPLETED)
        if fill in done:
            fill.result()
            await serving
    finally:
        for task in (fill, serving, *helpers):
            task.cancel()
        await close()


async def _run(main: Work) -> NoReturn:
    await main()
    # Without joining the threads: a plug-in that never returns would hold up the exit for good.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
