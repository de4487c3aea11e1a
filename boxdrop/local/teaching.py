"""``teach: auto`` on this machine: the pump calls it while people verify. See ``boxdrop teach --due``."""

import json
import os
from typing import Any

from boxdrop.aws.s3 import Bucket
from boxdrop.domain.errors import BoxdropError
from boxdrop.ledger import Ledger
from boxdrop.services import Services


def handler(_event: dict[str, Any], _context: Any) -> None:
    """Teach the projects that are due; the fault of one does not keep the others from it."""
    services = Services.of(
        ledger=Ledger(os.environ["BOXDROP_TABLE"]),
        images=Bucket(os.environ["BOXDROP_IMAGE_BUCKET"]),
        data=Bucket(os.environ["BOXDROP_DATA_BUCKET"]),
    )
    for project in services.ledger.projects():
        try:
            said = teach(services, project.name)
        except BoxdropError as error:
            said = str(error)
        if said is not None:
            print(json.dumps({"service": "teach", "message": said, "project": project.name}), flush=True)


def teach(services: Services, project: str) -> str | None:
    """Teach a project if it is due; returns what came of it, in a sentence."""
    from boxdrop.domain.teaching import sentence_of
    from boxdrop.teach.automatic import teach_itself

    taught = teach_itself(services, project)
    return None if taught is None else sentence_of(taught)
