"""Selecting the system: options and environment variables that several commands share."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from boxdrop.domain.errors import BoxdropError

if TYPE_CHECKING:
    from boxdrop.aws.s3 import Bucket
    from boxdrop.labelstudio.connection import Connection
    from boxdrop.ledger import Ledger
    from boxdrop.system import System

F = TypeVar("F", bound=Callable[..., Any])

LOCAL = "local"
"""In place of a URL: the Label Studio that `boxdrop local up` started."""

TABLE = "BOXDROP_TABLE"
DATA_BUCKET = "BOXDROP_DATA_BUCKET"


def system_option(command: F) -> F:
    """``--system``: selects a system by name."""
    return click.option(
        "--system",
        metavar="NAME",
        help="The system: 'local', or the name of a deployed one. Default: $BOXDROP_SYSTEM, else the local "
        "one if it is up.",
    )(command)


def label_studio_option(command: F) -> F:
    """``--label-studio``: the server's URL, as `url`; see `log_in`."""
    return click.option(
        "--label-studio",
        "url",
        metavar="URL",
        envvar="LABEL_STUDIO_URL",
        help="Which Label Studio; 'local' is the one that `boxdrop local up` started. "
        "Default: $LABEL_STUDIO_URL.",
    )(command)


def open_system(name: str | None) -> "System":
    """The system of this name, or the default one; boto3 connects to it from now on."""
    from boxdrop.system import find_system

    system = find_system(name)
    system.enter()
    return system


def enter_system_of(source: str, name: str | None) -> None:
    """Set the credentials that read ``s3://…``: the named system's, or the local one's for its own buckets.

    An endpoint set by the user stays, unless a system is named.
    """
    from boxdrop.system import local_system_with

    if not source.startswith("s3://"):
        return
    if name is not None:
        open_system(name)
    elif not os.environ.get("AWS_ENDPOINT_URL") and not os.environ.get("AWS_ENDPOINT_URL_S3"):
        local = local_system_with(source.removeprefix("s3://").partition("/")[0])
        if local is not None:
            local.enter()


def describe(name: str | None) -> dict[str, Any]:
    """All that a deployment says of itself, beside what `System` knows; nothing for the local system."""
    import json

    from boxdrop.cli.aws import client
    from boxdrop.system import LOCAL as ON_THIS_MACHINE
    from boxdrop.system import parameter_name

    system = open_system(name)
    if system.name == ON_THIS_MACHINE:
        return {}
    answer = client("ssm").get_parameter(Name=parameter_name(system.name))
    described: dict[str, Any] = json.loads(answer["Parameter"]["Value"])
    return described


def table_option(command: F) -> F:
    """``--table``: the ledger's."""
    return click.option(
        "--table", envvar=TABLE, help=f"The ledger's DynamoDB table. Default: ${TABLE}.", show_envvar=False
    )(command)


def bucket_option(command: F) -> F:
    """``--data-bucket``: the bucket with verified annotations."""
    return click.option(
        "--data-bucket",
        envvar=DATA_BUCKET,
        help=f"The bucket for predictions and annotations. Default: ${DATA_BUCKET}.",
    )(command)


def open_ledger(table: str | None, system: str | None = None) -> "Ledger":
    """The ledger of this table, or of the system; else an error that says how to name it."""
    from boxdrop.ledger import Ledger

    return Ledger(table or open_system(system).table)


def open_data_bucket(name: str | None, system: str | None = None) -> "Bucket":
    """The data bucket of this name, or of the system; else an error that says how to name it."""
    from boxdrop.aws.s3 import Bucket

    return Bucket(name or open_system(system).data_bucket)


def log_in(url: str | None, system: str | None = None) -> "Connection":
    """Label Studio, with a token from the environment, Secrets Manager or the local system.

    Args:
        url: of the server, or `LOCAL`. Default: the system's, if there is one.
        system: its name.
    """
    from boxdrop.aws.secrets import LABEL_STUDIO_URL, Secrets
    from boxdrop.labelstudio.connection import connect
    from boxdrop.local.label_studio import LabelStudio, token_for

    if url == LOCAL:
        server = LabelStudio().running()
        if server is None:
            raise BoxdropError("Label Studio is not running on this machine; start it with: boxdrop local up")
        return connect(server.url, server.token)
    known = token_for(url) if url else None
    if url and known:
        return connect(url, known)
    access = Secrets(environ=_with_access(url, system)).label_studio()
    address = url or access.url
    if not address:
        raise BoxdropError(
            f"where is Label Studio? Give --label-studio, or put its URL into {LABEL_STUDIO_URL}"
        )
    return connect(address, access.token)


def _with_access(url: str | None, system: str | None) -> Mapping[str, str]:
    """The environment, completed by the system's settings for Label Studio."""
    from boxdrop.aws.secrets import LABEL_STUDIO_SECRET_ID, LABEL_STUDIO_TOKEN, LABEL_STUDIO_URL

    named = LABEL_STUDIO_TOKEN, LABEL_STUDIO_SECRET_ID
    if any(os.environ.get(name) for name in named) or (url and system is None):
        return os.environ
    found = open_system(system)
    said = {LABEL_STUDIO_URL: found.label_studio_url, LABEL_STUDIO_SECRET_ID: found.label_studio_secret}
    return {**{name: value for name, value in said.items() if value}, **os.environ}
