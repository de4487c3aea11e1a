"""Options and messages of commands whose work can be done in the AWS account."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, TypeVar

import click

from boxdrop.cli.terminal import say
from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.account.placement import WorkStanding
    from boxdrop.services import Services
    from boxdrop.store.orders import Kind
    from boxdrop.system import System

_SHOWN = 3

F = TypeVar("F", bound=Callable[..., Any])


def in_account_option(command: F) -> F:
    """``--in-account``: a job in the AWS account does the work."""
    return click.option(
        "--in-account",
        is_flag=True,
        help="Do it in the system's AWS account, on a machine that is paid for only meanwhile.",
    )(command)


def at_most_option(default: str) -> Callable[[F], F]:
    """``--at-most``: the machine time or the money that a job in the account may take."""
    return click.option(
        "--at-most",
        metavar="LIMIT",
        help="With --in-account: machine time or money for all of it, interruptions included, such as 4h, "
        f"90m or $5. Default: {default}.",
    )


def place_order(
    system: "System",
    services: "Services",
    kind: "Kind",
    project: str,
    subject: str,
    arguments: Sequence[str],
    at_most: str,
    yes: bool,
    as_json: bool = False,
) -> None:
    """Say what long work may cost at most, ask, and have it done in the account.

    Args:
        project: whose work it is; empty for an export.
        subject: see `Order`.
        arguments: of the ``boxdrop`` command that the job runs.
        at_most: as the user wrote it.
        yes: do not ask.
        as_json: print the order as JSON; sentences go to the error output.

    Raises:
        BoxdropError: the system does no such work, or it cannot be started; with the way out.
    """
    from boxdrop.account.budget import read_budget
    from boxdrop.account.placement import Orders, offer_of, sentence_of
    from boxdrop.store.orders import Order, order_id

    offer = offer_of(system, kind)
    budget = read_budget(at_most, offer.usd_per_hour, offer.most_hours)
    orders = Orders(services.data, offer, services.clock)
    wanted = Order(
        order_id(kind, project, subject),
        kind,
        project,
        subject,
        tuple(arguments),
        services.clock(),
        budget.limit_s,
        offer.usd_per_hour,
    )
    say(f"{subject}: {budget.sentence(offer.machines)}", err=as_json)
    if not yes:
        click.confirm("Start it in the account?", abort=True, err=as_json)
    standing, is_new = orders.place(wanted)
    if not is_new:
        say(f"Nothing was started: {sentence_of(standing)}", err=as_json)
    else:
        job = f" (job {standing.order.job_id} of AWS Batch)"
        say(f"{subject}: submitted{job}. Follow it: {_status(system, project)}", err=as_json)
    if as_json:
        say(json.dumps({"submitted": is_new, **AccountWork((standing,)).fields()[0]}))


def cancel_order(system: "System", services: "Services", kind: "Kind", project: str, subject: str) -> None:
    """End long work in the account.

    Raises:
        BoxdropError: nothing works on it, or Batch did not end it.
    """
    from boxdrop.account.placement import Orders, offer_of, sentence_of
    from boxdrop.store.orders import order_id

    orders = Orders(services.data, offer_of(system, kind), services.clock)
    say(sentence_of(orders.cancel(project, order_id(kind, project, subject))))


@dataclass(frozen=True, slots=True)
class AccountWork:
    """Long work in the account that has not succeeded, for `boxdrop status`.

    Attributes:
        standings: the last one last.
        problem: why they are not known; None if they are.
    """

    standings: "tuple[WorkStanding, ...]" = ()
    problem: str | None = None

    def lines(self) -> list[str]:
        """The newest, a sentence each."""
        from boxdrop.account.placement import sentence_of

        shown = [sentence_of(each) for each in self.standings[-_SHOWN:]]
        return shown if self.problem is None else [f"work in the account: {self.problem}"]

    def fields(self) -> list[dict[str, Any]]:
        """All of it, as JSON fields."""
        return [
            {
                "kind": each.order.kind,
                "subject": each.order.subject,
                "state": each.state,
                "reason": each.reason,
                "used_s": each.used_s,
                "limit_s": each.order.limit_s,
                "usd_per_hour": each.order.usd_per_hour,
                "job": each.order.job_id,
                "placed_at": each.order.placed_at.isoformat(),
            }
            for each in self.standings
        ]


def read_work(system: "System | None", project: str) -> AccountWork:
    """How a project's orders stand. What cannot be asked is a problem of the result, not an error.

    Args:
        project: empty for orders of no project.
    """
    if system is None or not system.jobs:
        return AccountWork()
    from boxdrop.account.placement import Orders, offer_of
    from boxdrop.services import Services
    from boxdrop.store.orders import list_orders

    services = Services.of_system(system)
    try:
        seen = [
            Orders(services.data, offer_of(system, order.kind), services.clock).look(order)
            for order in list_orders(services.data, project)
            if order.kind in system.jobs
        ]
    except BoxdropError as error:
        return AccountWork(problem=str(error))
    return AccountWork(tuple(each for each in seen if each.state != "succeeded"))


def _status(system: "System", project: str) -> str:
    named = f"boxdrop status {quote(project)}" if project else "boxdrop status"
    return f"{named} --system {quote(system.name)}"
