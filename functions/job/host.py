"""Where the job runs: instance, GPU and its utilisation. Only for reports; each may be unknown."""

import http.client
import os
import urllib.parse
from typing import Any, Final

from boxdrop.job.host import Host, processor_name
from functions.job.environment import Environment

_METADATA: Final = "http://169.254.169.254"
_TIMEOUT_S: Final = 1.0


class Gpu:
    """The first GPU, through NVIDIA's management library (package nvidia-ml-py)."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            LookupError: there is none, or no driver, or no package.
        """
        try:
            import pynvml
        except ImportError:
            raise LookupError("nvidia-ml-py is not installed") from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            name = pynvml.nvmlDeviceGetName(self._handle)
        except pynvml.NVMLError as error:
            raise LookupError(str(error)) from None
        self.name: str = name.decode() if isinstance(name, bytes) else name

    def utilisation(self) -> float | None:
        """Share of the last sampling period, a sixth of a second to one, in which a kernel ran: 0 to 1."""
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100
        except self._nvml.NVMLError:
            return None


def find_gpu() -> Gpu | None:
    """The GPU, if there is one and it can be queried."""
    try:
        return Gpu()
    except LookupError:
        return None


def describe_host(environment: Environment, gpu: Gpu | None, *, serves: bool = False) -> Host:
    """Find out where the job runs.

    Args:
        environment: of the job.
        gpu: of this machine.
        serves: whether the job is SageMaker's server.
    """
    launcher = environment.launcher or ("sagemaker" if serves else "local")
    lookup = _ask_metadata if launcher == "batch" else _ask_nobody
    life = lookup("instance-life-cycle")  # "spot", "on-demand", or "scheduled"
    on_gpu = gpu is not None and environment.provider == "cuda"
    return Host(
        launcher=launcher,
        job_id=environment.job_id,
        device=gpu.name if gpu is not None and on_gpu else processor_name(),
        instance_type=lookup("instance-type"),
        spot=None if life is None else life == "spot",
        usd_per_hour=environment.usd_per_hour,
    )


def _ask_nobody(_: str) -> None:
    """The answer of an instance whose metadata is not available."""
    return


def _ask_metadata(what: str) -> str | None:
    """Query EC2's instance metadata, version 2; None if there is no response.

    From a container, the instance must allow two hops (``HttpPutResponseHopLimit: 2``), and ECS must not
    block it (``ECS_AWSVPC_BLOCK_IMDS``).
    """
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    address = urllib.parse.urlsplit(os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _METADATA)
    connection = http.client.HTTPConnection(address.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        answer = connection.getresponse()
        token = answer.read(1024).decode("ascii")
        if answer.status != 200:
            return None
        path = f"/latest/meta-data/{what}"
        connection.request("GET", path, headers={"X-aws-ec2-metadata-token": token})
        answer = connection.getresponse()
        text = answer.read(256).decode("ascii").strip()
        return text if answer.status == 200 and text else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
