"""The ledger: a row an image, in DynamoDB; and rows of projects, runs and leases.

`states` and `projects` are the rules, pure; `table` applies them by conditional writes; `Ledger` is what the
pipeline calls. The table's shape and its access patterns: docs/ledger.md.
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
