"""Running one stage from the tree that it starts with to the stored result."""

from __future__ import annotations

import errno

from kiln.engine.execution.failure import service_failure
from kiln.engine.execution.model import StageFailedError, StageRun
from kiln.engine.execution.services import CallCancelledError, ServiceError
from kiln.engine.execution.work import CancelledError, StageContext, StageRunner, StageWork
from kiln.engine.objects.model import ObjectRef
from kiln.errors import Domain, disk_full


def run_stage(work: StageWork, context: StageContext, runner: StageRunner) -> tuple[ObjectRef, StageRun]:
    """Run a stage and store its result. To be called in a thread with a mount namespace of its own.

    Raises StageFailedError, CancelledError, KilnError.
    """
    working = context.store.begin(work.key, work.base)
    try:
        run = runner.run(work, context, working)
        stage = work.stage
        ref = context.store.commit(
            working,
            stage=stage.type,
            stage_id=stage.id,
            metadata=run.metadata,
            source_epoch=work.pipeline.source_epoch,
            host=run.host,
        )
    except StageFailedError:
        if context.keep_failed is not None:
            context.store.keep(working, context.keep_failed)
        raise
    except ServiceError as error:
        raise service_failure(work, error) from error
    except CallCancelledError:
        raise CancelledError from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(context.store.root, Domain.ENGINE) from error
        raise
    finally:
        context.store.discard(working)
    return ref, run
