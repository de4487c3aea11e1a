"""problems: why a stage of the pipeline fails is kept in the project's row while it does.

Messages are retried out of sight, so without this nobody could tell why images stand still; `boxdrop status`
and `boxdrop doctor` show it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from boxdrop.domain.errors import BoxdropError
from boxdrop.ledger import Ledger, LedgerError, Stage
from boxdrop.pipeline.publish import BusyError, LeaseLostError


@contextmanager
def recording(ledger: Ledger, project: str, stage: Stage) -> Iterator[None]:
    """Record the error that ends the block, and raise it again; success clears what was recorded.

    Waiting for another publisher is no problem, and without the ledger there is nowhere to record one.
    """
    try:
        yield
    except (BusyError, LeaseLostError, LedgerError):
        raise
    except BoxdropError as error:
        with suppress(LedgerError):
            ledger.record_problem(project, stage, str(error))
        raise
    ledger.record_problem(project, stage, None)
