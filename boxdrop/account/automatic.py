"""``teach: auto`` in the account: orders for the projects that are due, one for each doubling."""

from collections.abc import Iterator
from dataclasses import dataclass

from boxdrop.account.budget import TEACH_AT_MOST, read_budget
from boxdrop.account.placement import Offer, Orders, WorkStanding
from boxdrop.aws.batch import BatchJobs
from boxdrop.domain.errors import BoxdropError, LessonError
from boxdrop.domain.teaching import next_teaching
from boxdrop.services import Services
from boxdrop.store.orders import Order, order_id, read_order
from boxdrop.teach.automatic import images_due


@dataclass(frozen=True, slots=True)
class DueTeaching:
    """A project that is due.

    Attributes:
        project: its name.
        order: what this call submitted; None if it could not.
        problem: why it could not, in a sentence; empty otherwise.
        passes: whether the problem may pass by itself.
    """

    project: str
    order: Order | None
    problem: str = ""
    passes: bool = True


def place_due_teachings(
    services: Services, offer: Offer, jobs: BatchJobs | None = None
) -> Iterator[DueTeaching]:
    """Submit a job for each project that asks to teach itself and is due; safe to call at any time.

    A project gets one job for each doubling of its verified images, also if that job fails: the alarm and
    `boxdrop status` tell people. The fault of one project does not keep others from being taught.

    Args:
        services: needs `ledger`, `images` and `data`.
        offer: where the account teaches.
        jobs: AWS Batch.
    """
    orders = Orders(services.data, offer, services.clock, jobs)
    for project in services.ledger.projects():
        try:
            order = _place(services, orders, offer, project.name)
        except BoxdropError as error:
            passes = not isinstance(error, LessonError)
            yield DueTeaching(project.name, None, str(error), passes)
        else:
            if order is not None:
                yield DueTeaching(project.name, order)


def _place(services: Services, orders: Orders, offer: Offer, project: str) -> Order | None:
    due = images_due(services, project)
    if due is None:
        return None
    number = order_id("teach", project, project)
    read = read_order(services.data, project, number)
    # An attempt that failed is noted nowhere but in its order.
    if read is not None and due < next_teaching(read[0].occasion) and _was_submitted(orders.look(read[0])):
        return None
    limit = read_budget(TEACH_AT_MOST, offer.usd_per_hour, offer.most_hours)
    wanted = Order(
        number,
        "teach",
        project,
        project,
        ("teach", project, "--due"),
        services.clock(),
        limit.limit_s,
        offer.usd_per_hour,
        occasion=due,
    )
    standing, is_new = orders.place(wanted)
    return standing.order if is_new else None


def _was_submitted(standing: WorkStanding) -> bool:
    """Whether Batch ever had the order's job."""
    return standing.order.job_id is not None or standing.state not in ("submitting", "cancelled")
