"""What a function works with, made once for all its calls: clients stay warm, secrets are looked up again."""

from functools import cache, cached_property

from boxdrop.aws.launchers import Launcher, make_launcher
from boxdrop.aws.s3 import Bucket
from boxdrop.aws.secrets import Secrets
from boxdrop.aws.sqs import Queue
from boxdrop.labelstudio.connection import Connection, connect
from boxdrop.ledger import Ledger
from boxdrop.pipeline.credits import ObjectCredits
from boxdrop.pipeline.prepare import WebhookTarget
from boxdrop.store.layout import request_key
from functions.environment import Environment, read_environment


class Resources:
    """Each is made when it is asked for first. Safe to use from several threads, once made.

    Args:
        environment: of the function.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.secrets = Secrets()
        self._connection: Connection | None = None

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self.environment.table)

    @cached_property
    def images(self) -> Bucket:
        """The image bucket."""
        return Bucket(self.environment.image_bucket)

    @cached_property
    def data(self) -> Bucket:
        """The data bucket."""
        return Bucket(self.environment.data_bucket)

    @cached_property
    def credits(self) -> ObjectCredits:
        """Whom to credit for images."""
        return ObjectCredits()

    @cached_property
    def launches(self) -> Queue:
        """Queue of launch."""
        return Queue(self.environment.launches_queue)

    @cached_property
    def parts(self) -> Queue:
        """Queue of publish."""
        return Queue(self.environment.parts_queue)

    @cached_property
    def reviews(self) -> Queue:
        """Queue of collect."""
        return Queue(self.environment.reviews_queue)

    @cached_property
    def launcher(self) -> Launcher:
        """Gives manifests to jobs."""
        env = self.environment
        return make_launcher(
            env.launcher,
            job_queue=env.job_queue,
            job_definition=env.job_definition,
            endpoint=env.endpoint,
            bucket=self.data,
            request_key=request_key,
            timeout_s=env.job_timeout_s,
        )

    @property
    def connection(self) -> Connection:
        """Label Studio, logged in.

        Raises:
            LabelStudioError, SecretError: it cannot be reached, or does not accept the token.
        """
        if self._connection is None:
            access = self.secrets.label_studio()
            self._connection = connect(access.url or "", access.token)
        return self._connection

    def reconnect(self) -> None:
        """Log in anew next time: the token may have been changed, or the server moved."""
        self._connection = None
        self.secrets.refresh()

    def webhook(self) -> WebhookTarget | None:
        """Where Label Studio shall tell that people worked; None if nobody listens."""
        url = self.environment.webhook_url
        return WebhookTarget(url, self.secrets.webhook().current) if url else None


@cache
def resources(function: str) -> Resources:
    """Those of a function. `resources.cache_clear()` makes them anew, for tests."""
    return Resources(read_environment(function))
