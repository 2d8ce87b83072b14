"""The stored trees of a plan's pipelines."""

from __future__ import annotations

from dataclasses import dataclass

from kiln.engine.execution.keys import Keys
from kiln.engine.manifest.model import Pipeline
from kiln.engine.objects.model import EMPTY, ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.errors import Domain, ExitStatus, KilnError


@dataclass(frozen=True, slots=True)
class Trees:
    """Looks pipelines up in a store by the keys of their stages."""

    store: ObjectStore
    keys: Keys

    def is_stored(self, pipeline: Pipeline, index: int) -> bool:
        """Whether the result of a stage (by index from 0) can be used."""
        return self.store.lookup(self.keys.key(pipeline, index)) is not None

    def after(self, pipeline: Pipeline, count: int) -> ObjectRef:
        """Return the tree after the first *count* stages. Raises KilnError(STORE, "object-lost")."""
        if count == 0:
            return EMPTY
        ref = self.store.lookup(self.keys.key(pipeline, count - 1))
        if ref is None:
            raise KilnError(
                Domain.STORE,
                "object-lost",
                f"the tree of the pipeline `{pipeline.name}` has gone from the store while it was needed",
                hint="did somebody delete files of the store? run the build again",
                exit_status=ExitStatus.INFRASTRUCTURE,
                retriable=True,
            )
        return ref

    def of(self, pipeline: Pipeline) -> ObjectRef:
        """Return the finished tree of a pipeline. Raises as `after` does."""
        return self.after(pipeline, len(pipeline.stages))
