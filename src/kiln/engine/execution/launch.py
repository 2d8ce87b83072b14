"""How the program of a prepared stage gets into its sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kiln.engine.execution.bubblewrap import run_sandboxed
from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.prepare import Prepared
from kiln.engine.execution.supervise import Ended
from kiln.engine.execution.work import StageContext
from kiln.linux.confinement import Confinement


class Launcher(Protocol):
    """Starts programs of stages; safe to use from several threads. What it keeps running ends with `close`."""

    def launch(
        self,
        prepared: Prepared,
        confinement: Confinement,
        context: StageContext,
        *,
        on_output: Callable[[bytes], None],
        server: PacketServer,
    ) -> Ended:
        """Run the command to the end of everything in the sandbox. Raises KilnError(HOST, ...), OSError."""

    def close(self) -> None:
        """End what waits for further stages."""


class BubblewrapLauncher:
    """One bubblewrap for each stage."""

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
        return run_sandboxed(
            prepared.sandbox,
            prepared.command,
            on_output=on_output,
            server=server,
            timeout_seconds=context.timeout_seconds,
            cancel=context.cancel.fileno(),
            confinement=confinement,
        )

    def close(self) -> None:
        """Nothing waits."""
