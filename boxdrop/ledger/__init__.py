"""The ledger: one row per image in DynamoDB, plus rows for projects, runs and leases.

`states` and `projects` hold the rules as pure functions; `table` applies them with conditional writes; the
pipeline calls `Ledger`. The table's schema and access patterns: docs/ledger.md.
"""

from boxdrop.ledger.ledger import Ledger, Page
from boxdrop.ledger.projects import Lease, Project, Run, RunState, Stage
from boxdrop.ledger.states import FailedImage, Image, Outcome, Publication, Result, Sighting, State
from boxdrop.ledger.table import TABLE, LedgerError, create_table

__all__ = [
    "Ledger",
    "LedgerError",
    "Outcome",
    "Result",
    "State",
    "Image",
    "Sighting",
    "Publication",
    "FailedImage",
    "Page",
    "Project",
    "Run",
    "RunState",
    "Stage",
    "Lease",
    "TABLE",
    "create_table",
]
