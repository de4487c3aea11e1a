"""Which system a command talks to: options and environment variables that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from boxdrop.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.ledger import Ledger
    from boxdrop.objects import Bucket

F = TypeVar("F", bound=Callable[..., Any])

LOCAL = "local"
"""Instead of a URL: the Label Studio that `boxdrop local up` started."""

TABLE = "BOXDROP_TABLE"
DATA_BUCKET = "BOXDROP_DATA_BUCKET"


def table_option(command: F) -> F:
    """``--table``: the ledger's."""
    return click.option(
        "--table", envvar=TABLE, help=f"The ledger's DynamoDB table. Default: ${TABLE}.", show_envvar=False
    )(command)


def bucket_option(command: F) -> F:
    """``--data-bucket``: where verified annotations are kept."""
    return click.option(
        "--data-bucket",
        envvar=DATA_BUCKET,
        help=f"The bucket for predictions and annotations. Default: ${DATA_BUCKET}.",
    )(command)


def open_ledger(table: str | None) -> "Ledger":
    """The ledger, or an error that says where its name comes from."""
    from boxdrop.ledger import Ledger

    if not table:
        raise BoxdropError(f"which system? Give --table, or put the ledger's table into {TABLE}")
    return Ledger(table)


def open_data_bucket(name: str | None) -> "Bucket":
    """The data bucket, or an error that says where its name comes from."""
    from boxdrop.objects import Bucket

    if not name:
        raise BoxdropError(f"which bucket? Give --data-bucket, or put its name into {DATA_BUCKET}")
    return Bucket(name)


def log_in(url: str | None) -> "Connection":
    """Label Studio; the token comes from the environment or Secrets Manager, or is that of the local one."""
    from boxdrop.labelstudio.connection import connect
    from boxdrop.local.label_studio import LabelStudio, token_for
    from boxdrop.secrets import LABEL_STUDIO_URL, Secrets

    if url == LOCAL:
        server = LabelStudio().running()
        if server is None:
            raise BoxdropError("Label Studio is not running on this machine; start it with: boxdrop local up")
        return connect(server.url, server.token)
    known = token_for(url) if url else None
    if url and known:
        return connect(url, known)
    access = Secrets().label_studio()
    address = url or access.url
    if not address:
        raise BoxdropError(
            f"where is Label Studio? Give --label-studio, or put its URL into {LABEL_STUDIO_URL}"
        )
    return connect(address, access.token)
