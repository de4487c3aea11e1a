"""The services of a function, made once per process from its environment."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from boxdrop.services import Services, WebhookTarget
from functions.environment import Environment, read_environment

if TYPE_CHECKING:
    from boxdrop.account.placement import Offer
    from boxdrop.aws.launchers import Launcher
    from boxdrop.aws.s3 import Bucket
    from boxdrop.aws.secrets import Secrets
    from boxdrop.aws.sqs import Queue
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.ledger import Ledger
    from boxdrop.pipeline.credits import ObjectCredits


@cache
def secrets() -> "Secrets":
    """The secrets of this process, kept for a few minutes."""
    from boxdrop.aws.secrets import Secrets

    return Secrets()


@cache
def services(function: str) -> Services:
    """The services of a function. Tests call `services.cache_clear()` to make new ones."""
    return make_services(read_environment(function))


@cache
def teaching_offer(function: str) -> "Offer | None":
    """Where the account teaches; None if it does not."""
    text = read_environment(function).teaching
    if not text:
        return None
    import json

    from boxdrop.account.placement import Offer

    return Offer(**json.loads(text))


def reconnect(of: Services) -> None:
    """Log in to Label Studio again next time: the token may have changed, or the server moved."""
    of.forget_label_studio()
    secrets().refresh()


def make_services(env: Environment) -> Services:
    """Services of an environment. Each part is imported and made on first use."""

    def ledger() -> "Ledger":
        from boxdrop.ledger import Ledger

        return Ledger(env.table)

    def bucket(name: str) -> Callable[[], "Bucket"]:
        def make() -> "Bucket":
            from boxdrop.aws.s3 import Bucket

            return Bucket(name)

        return make

    def queue(url: str) -> Callable[[], "Queue"]:
        def make() -> "Queue":
            from boxdrop.aws.sqs import Queue

            return Queue(url)

        return make

    def launcher() -> "Launcher":
        from boxdrop.aws.launchers import make_launcher
        from boxdrop.store.layout import request_key

        return make_launcher(
            env.launcher,
            job_queue=env.job_queue,
            job_definition=env.job_definition,
            endpoint=env.endpoint,
            bucket=bucket(env.data_bucket)(),
            request_key=request_key,
            timeout_s=env.job_timeout_s,
        )

    def label_studio() -> "Connection":
        from boxdrop.labelstudio.connection import connect

        access = secrets().label_studio()
        return connect(access.url or "", access.token)

    def credits() -> "ObjectCredits":
        from boxdrop.pipeline.credits import ObjectCredits

        return ObjectCredits()

    def webhook() -> WebhookTarget | None:
        return WebhookTarget(env.webhook_url, secrets().webhook().current) if env.webhook_url else None

    makers: dict[str, Callable[[], Any]] = {
        "ledger": ledger,
        "images": bucket(env.image_bucket),
        "data": bucket(env.data_bucket),
        "launches": queue(env.launches_queue),
        "parts": queue(env.parts_queue),
        "reviews": queue(env.reviews_queue),
        "launcher": launcher,
        "label_studio": label_studio,
        "credits": credits,
    }
    return Services(makers, env.settings, webhook=webhook)
