"""AWS's services, as commands of an operator ask them."""

from typing import Any

from boxdrop.domain.errors import BoxdropError


def client(service: str) -> Any:
    """Make boto3's client of a service, which gives up within seconds.

    Raises:
        BoxdropError: boto3 is not installed, or does not know the region.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise BoxdropError("this needs boto3: pip install 'boxdrop[functions]'") from None
    config = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=5, read_timeout=20)
    try:
        return boto3.client(service, config=config)
    except BotoCoreError as error:
        raise BoxdropError(f"AWS cannot be asked: {error}; set AWS_PROFILE and AWS_REGION") from None
