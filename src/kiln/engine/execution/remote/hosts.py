"""The remote hosts of a build, and which of its stages may run on which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from kiln.engine.execution.inputs import FILES
from kiln.engine.execution.places import Choice, Place
from kiln.engine.execution.remote.address import Remote, RemoteHost
from kiln.engine.execution.remote.outbox import Outbox
from kiln.engine.execution.remote.runner import RemoteRunner
from kiln.engine.graph.needed import Job
from kiln.engine.graph.scheduler import LOCAL
from kiln.engine.manifest.model import ORIGIN_SOURCE, Stage
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import userns
from kiln_wire.digest import Digest, DigestError


class RemoteHosts:
    """Use as a context manager; connections are made when they are needed and ended with it."""

    def __init__(self, remotes: Sequence[Remote], outbox: Outbox) -> None:
        """Take the hosts.

        Raises KilnError(SETTINGS, "bad-remote") for one that is given with different options, and KilnError(HOST,
        "needs-root") in a user namespace.
        """
        _check_hosts(remotes)
        if userns.is_inside():
            raise KilnError(
                Domain.HOST,
                "needs-root",
                "layers that other hosts made have owners and devices, which a user namespace cannot have",
                hint="run it with sudo, or without remote hosts",
                exit_status=ExitStatus.INFRASTRUCTURE,
            )
        self._remotes = remotes
        hosts = {remote.host.name: remote.host for remote in remotes}
        self._runners = {name: RemoteRunner(host, outbox) for name, host in hosts.items()}
        self._places = {name: Place(hosts[name].slots, runner) for name, runner in self._runners.items()}

    def __enter__(self) -> RemoteHosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for runner in self._runners.values():
            runner.close()

    @property
    def places(self) -> Mapping[str, Place]:
        """The hosts by name."""
        return self._places

    def choose(self, job: Job) -> Choice:
        """Return the hosts that a pattern names for a job; else this machine and the hosts without a pattern.

        Raises KilnError(ENGINE, "remote-unsuitable") for a job that was meant for a host and cannot be sent.
        """
        bound = [
            remote for remote in self._remotes if remote.pattern is not None and remote.wants(job.pipeline, job.stage)
        ]
        obstacle = _obstacle(job.stage)
        last_resort = (LOCAL,) if any(remote.fallback for remote in bound) else ()
        if bound and obstacle and not last_resort:
            raise KilnError(
                Domain.ENGINE,
                "remote-unsuitable",
                f"the stage {job.stage.type} of `{job.pipeline.name}` cannot run on another host: {obstacle}",
                hint="take it out of the pattern of --remote, or allow ?fallback=local",
                exit_status=ExitStatus.USAGE,
            )
        if obstacle:
            return Choice()
        if bound:
            return Choice(_names(bound), last_resort)
        # This machine first: what runs here is not sent anywhere.
        return Choice((LOCAL, *_names([remote for remote in self._remotes if remote.pattern is None])))


def _check_hosts(remotes: Sequence[Remote]) -> None:
    """Refuse a host that is given with different options. Raises KilnError(SETTINGS, "bad-remote")."""
    known: dict[str, RemoteHost] = {}
    for remote in remotes:
        if known.setdefault(remote.host.name, remote.host) != remote.host:
            raise KilnError(
                Domain.SETTINGS,
                "bad-remote",
                f"the remote host {remote.host.name} is given twice with different options",
                hint="give it the same options in each --remote; slots are shared",
                exit_status=ExitStatus.USAGE,
            )


def _names(remotes: Sequence[Remote]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(remote.host.name for remote in remotes))


def _obstacle(stage: Stage) -> str:
    """Return why a stage can only run where its sources are; nothing if it can be sent."""
    for entry in stage.inputs:
        if entry.origin != ORIGIN_SOURCE:
            continue
        if entry.type != FILES:
            return f"its input `{entry.name}` ({entry.type}) is not made of files by digest"
        for checksum in entry.references:
            try:
                Digest.parse(checksum)
            except DigestError:
                return f"its input `{entry.name}` names a file by {checksum.partition(':')[0]}, which can be forged"
    return ""
