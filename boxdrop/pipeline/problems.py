"""problems: while a stage of the pipeline fails, the project's row holds the reason.

Messages are retried in the background, so without this the user could not see why images are stuck; `boxdrop
status` and `boxdrop doctor` show the reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from boxdrop.domain.errors import BoxdropError
from boxdrop.ledger import Ledger, LedgerError, Stage
from boxdrop.pipeline.publish import BusyError, LeaseLostError


@contextmanager
def recording(ledger: Ledger, project: str, stage: Stage) -> Iterator[None]:
    """Record the error that ends the block, and raise it again; success clears the record.

    Waiting for another publisher does not count, and without the ledger there is nowhere to record one.
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
