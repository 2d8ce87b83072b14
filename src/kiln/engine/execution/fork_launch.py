"""Starting stages by fork servers where that is possible, and by bubblewrap where it is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from kiln.engine.execution.forkserver import ForkServer, UnavailableError
from kiln.engine.execution.launch import BubblewrapLauncher
from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.prepare import Prepared
from kiln.engine.execution.supervise import Ended, supervise
from kiln.engine.execution.work import StageContext
from kiln.linux.confinement import Confinement

_Key = tuple[str, frozenset[str]]


class ForkLauncher:
    """Keeps a fork server for each build root and set of capabilities.

    What a server cannot do goes by bubblewrap: on a kernel before Linux 5.12, in a build root without Python 3.9,
    for a runtime that cannot be loaded for several stages. A server that has failed once is not asked again.
    """

    def __init__(self) -> None:
        self._plain = BubblewrapLauncher()
        self._servers: dict[_Key, ForkServer | None] = {}
        self._guard = threading.Lock()

    def launch(
        self,
        prepared: Prepared,
        confinement: Confinement,
        context: StageContext,
        *,
        on_output: Callable[[bytes], None],
        server: PacketServer,
    ) -> Ended:
        """Run the command. Raises KilnError(HOST, ...), OSError."""
        key = (prepared.root_key, prepared.sandbox.capabilities)
        started = time.monotonic()
        forks = self._server(key, prepared)
        if forks is not None:
            try:
                with ExitStack() as held:
                    child, output = forks.run(prepared, confinement, held)
                    return supervise(
                        child,
                        output,
                        started=started,
                        on_output=on_output,
                        server=server,
                        timeout_seconds=context.timeout_seconds,
                        cancel=context.cancel.fileno(),
                    )
            except UnavailableError:
                self._give_up(key)
        return self._plain.launch(prepared, confinement, context, on_output=on_output, server=server)

    def close(self) -> None:
        """End every server."""
        with self._guard:
            servers, self._servers = self._servers, {}
        for server in servers.values():
            if server is not None:
                server.close()

    def _server(self, key: _Key, prepared: Prepared) -> ForkServer | None:
        with self._guard:
            if key not in self._servers:
                try:
                    self._servers[key] = ForkServer(prepared)
                except UnavailableError:
                    self._servers[key] = None
            return self._servers[key]

    def _give_up(self, key: _Key) -> None:
        """Ask this server no more; the stages that it runs go on, and `close` ends it."""
        with self._guard:
            server = self._servers.get(key)
            if server is not None:
                self._servers[key] = None
                self._servers["given up", frozenset({str(len(self._servers))})] = server
