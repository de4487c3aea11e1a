"""What differs between AWS regions: GPU instance types, availability zones, missing resource types.

The tables are compared with the specification that cfn-lint ships (tests/infra/test_regions.py), so a new
version of cfn-lint shows what AWS has added. `boxdrop doctor` asks the account's own region.
"""

from collections.abc import Mapping
from typing import Final

BATCH_PREFERENCE: Final = ("g4dn.xlarge", "g6.xlarge", "g5.xlarge", "g6e.xlarge")
"""Types that hold a job of 4 vCPUs, 14,000 MiB and one GPU, the cheapest first. g6e costs three times as much
as g6: it is a default only where nothing else is offered."""

_ALL: Final = BATCH_PREFERENCE[:3]

BATCH_INSTANCES: Final[Mapping[str, tuple[str, ...]]] = {
    "af-south-1": ("g4dn.xlarge",),
    "ap-east-1": ("g4dn.xlarge", "g5.xlarge"),
    "ap-east-2": (),
    "ap-northeast-1": _ALL,
    "ap-northeast-2": _ALL,
    "ap-northeast-3": ("g4dn.xlarge",),
    "ap-south-1": _ALL,
    "ap-south-2": ("g6.xlarge",),
    "ap-southeast-1": ("g4dn.xlarge",),
    "ap-southeast-2": _ALL,
    "ap-southeast-3": ("g5.xlarge",),
    "ap-southeast-4": (),
    "ap-southeast-5": ("g6.xlarge",),
    "ap-southeast-6": (),
    "ap-southeast-7": (),
    "ca-central-1": _ALL,
    "ca-west-1": (),
    "eu-central-1": _ALL,
    "eu-central-2": ("g6.xlarge",),
    "eu-north-1": _ALL,
    "eu-south-1": ("g4dn.xlarge",),
    "eu-south-2": ("g6.xlarge", "g5.xlarge"),
    "eu-west-1": ("g4dn.xlarge", "g5.xlarge"),
    "eu-west-2": _ALL,
    "eu-west-3": _ALL,
    "il-central-1": ("g5.xlarge",),
    "me-central-1": ("g6.xlarge", "g5.xlarge"),
    "mx-central-1": (),
    "sa-east-1": _ALL,
    "us-east-1": _ALL,
    "us-east-2": _ALL,
    "us-west-1": ("g4dn.xlarge",),
    "us-west-2": _ALL,
}
"""The default types of AWS Batch in each commercial region; Batch refuses a type that its region lacks."""

SAGEMAKER_PREFERENCE: Final = ("ml.g4dn.xlarge", "ml.g6.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge")

_WITHOUT_G4DN: Final[Mapping[str, str | None]] = {
    "ap-east-2": None,
    "ap-south-2": None,
    "ap-southeast-3": "ml.g5.xlarge",
    "ap-southeast-4": None,
    "ap-southeast-5": "ml.g6.xlarge",
    "ap-southeast-6": None,
    "ap-southeast-7": None,
    "ca-west-1": None,
    "eu-central-2": "ml.g6.xlarge",
    "eu-south-2": "ml.g6.xlarge",
    "il-central-1": "ml.g5.xlarge",
    "me-central-1": None,  # it offers ml.g5, and CloudFormation has no endpoints there
    "mx-central-1": None,
}

SAGEMAKER_INSTANCES: Final[Mapping[str, str | None]] = {
    region: _WITHOUT_G4DN.get(region, SAGEMAKER_PREFERENCE[0]) for region in BATCH_INSTANCES
}
"""The default type of a SageMaker endpoint in each commercial region; None where there can be none."""

SAGEMAKER_AMI: Final = "al2023-ami-sagemaker-inference-gpu-4-1"
"""NVIDIA driver 580, CUDA 13.0: what the job's image needs. Without it, ml.g4dn and ml.g5 get driver 470,
CUDA 11.4 (docs.aws.amazon.com/sagemaker/latest/dg/inference-gpu-drivers.html)."""

SAGEMAKER_AMI_FAMILIES: Final = ("g4dn", "g5", "g6", "g6e", "g7e", "p4d", "p4de", "p5", "p5e", "p5en")
"""Instance families that this AMI serves."""

WITHOUT_BUDGETS: Final = frozenset(
    {
        "af-south-1",
        "ap-east-1",
        "ap-east-2",
        "ap-northeast-3",
        "ap-south-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "ap-southeast-5",
        "ap-southeast-6",
        "ap-southeast-7",
        "ca-west-1",
        "eu-central-2",
        "eu-north-1",
        "eu-south-1",
        "eu-south-2",
        "il-central-1",
        "me-central-1",
        "mx-central-1",
    }
)
"""Commercial regions whose CloudFormation has no ``AWS::Budgets::Budget``."""

_ZONES: Final[Mapping[str, int]] = {"us-east-1": 6, "us-west-1": 2, "us-west-2": 4, "ap-northeast-2": 4}


def zones(region: str) -> int:
    """How many availability zones every account has in a region, at least."""
    return _ZONES.get(region, 3)
