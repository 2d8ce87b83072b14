"""Sources that the engine does not fetch itself: programs of the libdir do it, as services on the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kiln.engine.execution.sources import SUPPORTED, SourceFailedError, SourceItem
from kiln.engine.manifest.model import Source
from kiln.engine.manifest.modules import Modules
from kiln.errors import Domain, KilnError
from kiln.events.model import Sink


class LibdirSources:
    """Starts `sources/<type>` of a libdir. *cache* is the directory `sources` of the store."""

    def __init__(self, modules: Modules, runtime: Path, cache: Path, sink: Sink) -> None:
        self._modules = modules
        self._runtime = runtime
        self._cache = cache
        self._sink = sink

    def download(self, source: Source, items: Mapping[str, Any]) -> list[SourceItem]:
        """Have *items* in the store. Raises SourceFailedError."""
        # Most builds start no service, and what services need takes a while to load.
        from kiln.engine.execution.services import ServiceError, started  # noqa: PLC0415

        module = self._modules.find("Source", source.type)
        if module is None or not module.path.is_file():
            missing = KilnError(
                Domain.ENGINE,
                "unknown-service",
                f"the libdir {self._modules.libdir} has no program for the source `{source.type}`",
                hint=f"without one: {', '.join(SUPPORTED)}; not with secrets, nor by md5 or sha1, which can be forged",
            )
            raise SourceFailedError(source.type, missing)
        arguments: dict[str, Any] = {
            "items": dict(items),
            "options": dict(source.options),
            "cache": str(self._cache),
            "output": None,
            "checksums": [],
        }
        try:
            with started(f"source/{source.type}", module.path, runtime=self._runtime, sink=self._sink) as service:
                reply = service.call("download", arguments)
        except ServiceError as error:
            raise SourceFailedError(source.type, error) from error
        results = reply.get("results") if isinstance(reply, Mapping) else None
        found = [_item(result) for result in results or [] if isinstance(result, Mapping)]
        failed = {checksum: problem for checksum, _, problem in found if problem is not None}
        if failed or not isinstance(reply, Mapping) or reply.get("success") is False:
            text = str(reply.get("output", "")) if isinstance(reply, Mapping) else ""
            first = next(iter(failed.values()), text or "the service gave no result")
            refusal = KilnError(Domain.FETCH, "source-failed", f"the source {source.type}: {first}", detail=text)
            raise SourceFailedError(source.type, refusal, failed)
        known = {checksum: cached for checksum, cached, _ in found}
        return [SourceItem(checksum, known.get(checksum, False)) for checksum in items]


def _item(result: Mapping[str, Any]) -> tuple[str, bool, str | None]:
    metadata = result.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    error = None if result.get("success", True) else str(result.get("error", ""))
    return str(metadata.get("checksum", "")), bool(metadata.get("cached")), error
