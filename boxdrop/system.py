"""boxdrop systems: names and addresses, looked up by the system's name.

``local`` is the one that `boxdrop local up` runs: it describes itself in ``$BOXDROP_HOME/system.json``. Any
other name is a deployed one, described by the SSM parameter ``/boxdrop/NAME/system``, which the deployment
writes. Both are the same JSON object, the fields of `System`.
"""

import json
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from boxdrop.domain.errors import BoxdropError

LOCAL: Final = "local"
VARIABLE: Final = "BOXDROP_SYSTEM"
PASSES_IMAGES_ON: Final = "BOXDROP_LABEL_STUDIO_PASSES_IMAGES_ON"
"""Set where browsers reach only Label Studio, see `System.public_url`."""

LOCAL_KEY: Final = "boxdrop"
"""Access key id and secret of the local system: it accepts any, and listens only on loopback."""

_ANSWER_S = 2.0
_REASON_SHOWN = 200  # characters
_KINDS: Final[Mapping[str, Any]] = {"queues": dict, "jobs": dict, "window_s": (int, float)}
_OPTIONAL: Final = ("label_studio_url", "label_studio_secret", "endpoint_url", "public_url")


@dataclass(frozen=True, slots=True)
class System:
    """Names and addresses of one system.

    Attributes:
        name: ``local``, or that of the deployment.
        region: AWS's.
        table: the ledger's.
        image_bucket, data_bucket: without ``s3://``.
        queues: URL of each queue by its name (``uploads``, ``launches``, …), dead letters as ``uploads-dlq``.
        launcher: ``batch``, ``sagemaker`` or ``local``.
        window_s: how long launch waits for more images, seconds.
        label_studio_url: of Label Studio.
        label_studio_secret: id of Label Studio's token in Secrets Manager.
        endpoint_url: of the AWS API; None for AWS itself.
        public_url: where people on other machines open Label Studio, if that differs from `label_studio_url`.
            Browsers cannot reach `endpoint_url` then, so Label Studio passes the images on.
        jobs: of AWS Batch for long work, by its kind; see `boxdrop.account.placement.Offer`.
    """

    name: str
    region: str
    table: str
    image_bucket: str
    data_bucket: str
    queues: Mapping[str, str] = field(default_factory=dict)
    launcher: str = "batch"
    window_s: float = 0.0
    label_studio_url: str | None = None
    label_studio_secret: str | None = None
    endpoint_url: str | None = None
    public_url: str | None = None
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def queue(self, name: str) -> str:
        """URL of a queue.

        Raises:
            BoxdropError: this system has none of that name.
        """
        try:
            return self.queues[name]
        except KeyError:
            raise BoxdropError(
                f"the system {self.name} has no queue {name!r}: it is older than this boxdrop; "
                f"{'run `boxdrop local up`' if self.name == LOCAL else 'deploy it again'}"
            ) from None

    def environment(self) -> dict[str, str]:
        """Environment variables by which boto3 finds this system."""
        variables = {"AWS_DEFAULT_REGION": self.region, "AWS_REGION": self.region}
        if self.endpoint_url:
            variables |= {
                "AWS_ENDPOINT_URL": self.endpoint_url,
                "AWS_ACCESS_KEY_ID": LOCAL_KEY,
                "AWS_SECRET_ACCESS_KEY": LOCAL_KEY,
            }
        if self.public_url:
            variables[PASSES_IMAGES_ON] = "1"
        return variables

    def enter(self) -> None:
        """Make boto3 in this process connect to this system; a region that the user has set for AWS stays."""
        for name, value in self.environment().items():
            if self.endpoint_url or not os.environ.get(name):
                os.environ[name] = value
        if self.endpoint_url:  # the user's profile or session must be neither looked up nor sent
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
                os.environ.pop(name, None)

    def to_json(self) -> str:
        """The description that `from_json` reads."""
        return json.dumps(asdict(self), indent=1)


def from_json(text: str | bytes, where: str) -> System:
    """Read a description; unknown fields are ignored.

    Raises:
        BoxdropError: it is not one; names where it is and the way out.
    """
    try:
        given: Any = json.loads(text)
        system = System(**{each.name: given[each.name] for each in fields(System) if each.name in given})
        for each in fields(System):
            value = getattr(system, each.name)
            optional = each.name in _OPTIONAL and value is None
            if not optional and not isinstance(value, _KINDS.get(each.name, str)):
                raise ValueError(f"{each.name} is {value!r}")
        _ = urlsplit(system.endpoint_url or "").port
    except (ValueError, TypeError, RecursionError) as error:
        way_out = (
            "deploy the system again" if where.startswith("SSM") else "`boxdrop local up` writes it again"
        )
        reason = str(error)[:_REASON_SHOWN]
        raise BoxdropError(f"{where} does not describe a boxdrop system ({reason}); {way_out}") from None
    return system


def read_description(path: Path) -> System:
    """Read the file in which the local system describes itself.

    Raises:
        FileNotFoundError: there is none.
        BoxdropError: it is incomplete or unreadable; with the way out.
    """
    try:
        return from_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BoxdropError(f"{path} cannot be read: {error.strerror}") from None


def description_file() -> Path:
    """The file that describes the local system while it is up."""
    from boxdrop.home import home

    return home() / "system.json"


def parameter_name(name: str) -> str:
    """The SSM parameter that describes a deployed system."""
    return f"/boxdrop/{name}/system"


def find_system(name: str | None = None) -> System:
    """The system of this name; without one, of `VARIABLE`; else the local one if it is up.

    Raises:
        BoxdropError: there is none; with the way out.
    """
    wanted = name or os.environ.get(VARIABLE) or None
    if wanted is None and not description_file().exists():
        raise BoxdropError(
            f"which system?{_elsewhere()} Start one on this machine with `boxdrop local up`, or name a "
            f"deployed one with --system or {VARIABLE} (for the ledger alone: --table or BOXDROP_TABLE)"
        )
    if wanted in (None, LOCAL):
        return _local()
    assert wanted is not None
    return _deployed(wanted)


def local_system_with(bucket: str) -> System | None:
    """The local system, if it is up and this is one of its buckets.

    Raises:
        BoxdropError: its description cannot be read.
    """
    try:
        system = read_description(description_file())
    except FileNotFoundError:
        return None
    return _local() if bucket in (system.image_bucket, system.data_bucket) else None


def _elsewhere() -> str:
    """A sentence about this user's systems that run from other folders; empty if there are none."""
    from boxdrop.servers.processes import other_homes

    others = other_homes(description_file().parent)
    return f" One runs from {others[0]}: for it, set BOXDROP_HOME={shlex.quote(others[0])}." if others else ""


def _local() -> System:
    path = description_file()
    try:
        system = read_description(path)
    except FileNotFoundError:
        raise BoxdropError(
            f"the local system is not running; start it with: boxdrop local up{_elsewhere()}"
        ) from None
    address = urlsplit(system.endpoint_url or "")
    try:
        socket.create_connection((address.hostname or "", address.port or 0), _ANSWER_S).close()
    except OSError:
        raise BoxdropError(
            f"the system on this machine does not answer at {system.endpoint_url}; start it again with: "
            "boxdrop local up"
        ) from None
    return system


def _deployed(name: str) -> System:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise BoxdropError("a deployed system needs boto3: pip install 'boxdrop[functions]'") from None
    parameter = parameter_name(name)
    try:
        answer = boto3.client("ssm").get_parameter(Name=parameter)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code == "ParameterNotFound":
            raise BoxdropError(
                f"there is no system {name!r} in this account and region (SSM parameter {parameter}); deploy "
                "it, or check AWS_PROFILE and AWS_REGION"
            ) from None
        raise BoxdropError(f"the system {name!r} cannot be looked up: {error}") from None
    except BotoCoreError as error:
        raise BoxdropError(f"the system {name!r} cannot be looked up: {error}") from None
    return from_json(answer["Parameter"]["Value"], f"SSM parameter {parameter}")
