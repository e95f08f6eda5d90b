"""The HTTP server: the Starlette application, its socket, and how it starts and ends."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from runsignup_sandbox.admin import Admin
from runsignup_sandbox.gateway import Gateway
from runsignup_sandbox.life import Life
from runsignup_sandbox.state import Keeper
from runsignup_sandbox.world import World

_PARENT_CHECK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve. `live_interval` None means no life, and port 0 means a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    live_interval: float | None = None
    exit_with_parent: bool = False
    save_every: float = 30.0


class _Server(uvicorn.Server):
    """Leaves the signals to `serve`, which ends with exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def application(gateway: Gateway) -> Starlette:
    """Return the application: the API below /Rest (three spellings) and the admin interface below /admin."""
    admin = Admin(gateway)
    return Starlette(
        routes=[
            *(Mount(path, app=gateway) for path in ("/Rest", "/rest", "/REST")),
            Route("/admin/{name}", admin.handle, methods=["GET", "POST", "DELETE"]),
        ]
    )


async def serve(world: World, settings: Settings, keeper: Keeper | None = None) -> None:
    """Serve until a signal comes or the parent is gone, and print one line once it listens.

    The `keeper` saves the world in the meantime and once more at the end.
    """
    parent = os.getppid()
    transports: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        """Records each connection, so that a fault can cut it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # asyncio does this only for sockets made with an explicit protocol number. Without it every answer of more than one
            # packet waits 40 ms for the client's acknowledgement.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peer = transport.get_extra_info("peername")
            transports[self.peer] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            transports.pop(self.peer, None)
            super().connection_lost(exc)

    gateway = Gateway(world, transports)
    config = uvicorn.Config(
        application(gateway),
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        # An access log would contain the secrets that are in query strings.
        access_log=False,
        log_level="critical",
        date_header=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server)
    tasks: list[asyncio.Task[Any]] = []
    if settings.live_interval is not None:
        tasks.append(asyncio.create_task(Life(world, world.seed, settings.live_interval).run()))
    if settings.exit_with_parent:
        tasks.append(asyncio.create_task(_watch_parent(parent, server)))
    if keeper is not None:
        tasks.append(asyncio.create_task(keeper.run(settings.save_every)))
    with socket.create_server((settings.host, settings.port), backlog=256) as listener:
        tasks.append(asyncio.create_task(_announce(server, listener)))
        try:
            await server.serve(sockets=[listener])
        finally:
            for task in tasks:
                task.cancel()
            if keeper is not None:
                # While the signals are still caught, so that a second one cannot interrupt it.
                keeper.save()


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


async def _announce(server: uvicorn.Server, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    while not server.started:
        await asyncio.sleep(0.01)
    click.echo(f"sandbox listening on http://{host}:{port}")


async def _watch_parent(parent: int, server: uvicorn.Server) -> None:
    # A parent-death signal would be tied to the parent's thread instead of its process.
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
    server.should_exit = True
