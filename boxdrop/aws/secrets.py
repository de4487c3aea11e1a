"""Secrets: from an environment variable, or from AWS Secrets Manager, with the id in another variable.

The variable with the value wins; it is for the local system and for tests. In AWS, functions get only ids. No
message, ``repr`` or log contains a secret.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from boxdrop.domain.errors import BoxdropError

LABEL_STUDIO_TOKEN: Final = "LABEL_STUDIO_API_KEY"  # noqa: S105
LABEL_STUDIO_URL: Final = "LABEL_STUDIO_URL"
LABEL_STUDIO_SECRET_ID: Final = "BOXDROP_LABEL_STUDIO_SECRET"  # noqa: S105
WEBHOOK_SECRET: Final = "BOXDROP_WEBHOOK_SECRET"  # noqa: S105
WEBHOOK_SECRET_ID: Final = "BOXDROP_WEBHOOK_SECRET_ID"  # noqa: S105
ZENML_STORE_URL: Final = "ZENML_STORE_URL"
ZENML_KEY: Final = "ZENML_STORE_API_KEY"
ZENML_SECRET_ID: Final = "BOXDROP_ZENML_SECRET"  # noqa: S105

TTL_S: Final = 300.0
"""How long values are cached: a rotated secret is in use after at most this time."""

_REFRESH_S: Final = 10.0  # wrong secrets from strangers must not cause a call to Secrets Manager each time


class SecretError(BoxdropError):
    """A secret is missing, unreadable or malformed; the message says where it should be."""


@dataclass(frozen=True, slots=True)
class LabelStudioAccess:
    """Credentials for Label Studio.

    Attributes:
        token: legacy or personal access token.
        url: of the server, from the secret or ``LABEL_STUDIO_URL``.
    """

    token: str = field(repr=False)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """The webhook's secret and, during a rotation, the previous one.

    To rotate: store the new one as ``current`` and the old one as ``previous``; run `boxdrop sync`, which
    updates the webhooks; remove ``previous``.
    """

    current: str = field(repr=False)
    previous: str | None = field(default=None, repr=False)

    @property
    def valid(self) -> tuple[str, ...]:
        """The secrets to accept."""
        return (self.current,) if self.previous is None else (self.current, self.previous)


class Secrets:
    """Reads secrets, and caches those from Secrets Manager for five minutes. Safe to use from several
    threads.

    Args:
        client: boto3's Secrets Manager client; by default one made from the environment, when it is needed.
        environ: the environment.
        ttl_s: how long to cache values from Secrets Manager.
        clock: monotonic seconds; tests replace it.
    """

    def __init__(
        self,
        *,
        client: Any = None,
        environ: Mapping[str, str] = os.environ,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._environ = environ
        self._ttl = ttl_s
        self._clock = clock
        self._kept: dict[str, tuple[float, str]] = {}
        self._lock = Lock()

    def label_studio(self) -> LabelStudioAccess:
        """Token and, if known, URL of Label Studio.

        ``LABEL_STUDIO_API_KEY`` has the token; or ``BOXDROP_LABEL_STUDIO_SECRET`` names a secret which is the
        token, or JSON: ``{"url": "https://…", "token": "…"}``.

        Raises:
            SecretError: one sentence.
        """
        url = self._variable(LABEL_STUDIO_URL) or None
        token = self._variable(LABEL_STUDIO_TOKEN)
        if token:
            return LabelStudioAccess(token, url)
        secret_id = self._secret_id(LABEL_STUDIO_SECRET_ID, LABEL_STUDIO_TOKEN, "Label Studio's access token")
        value = self._read(secret_id, LABEL_STUDIO_SECRET_ID)
        if not value.startswith("{"):
            return LabelStudioAccess(value, url)
        fields = _object(value, secret_id, '{"url": …, "token": …}')
        token = _text(fields, "token", secret_id)
        stored_url = _text(fields, "url", secret_id) if fields.get("url") is not None else None
        return LabelStudioAccess(token, url or stored_url)

    def webhook(self) -> WebhookSecrets:
        """Secrets that a webhook may send.

        ``BOXDROP_WEBHOOK_SECRET`` has the current one and, after a comma, the previous one; or
        ``BOXDROP_WEBHOOK_SECRET_ID`` names a secret that is JSON: ``{"current": "…", "previous": "…"}``.

        Raises:
            SecretError: one sentence.
        """
        if self._environ.get(WEBHOOK_SECRET, "").strip():
            current, *others = (part.strip() for part in self._environ[WEBHOOK_SECRET].split(","))
            if not current or not all(others) or len(others) > 1:
                raise SecretError(
                    f"{WEBHOOK_SECRET} must be one secret, or two with a comma between them: current,previous"
                )
            return WebhookSecrets(current, others[0] if others else None)
        secret_id = self._secret_id(WEBHOOK_SECRET_ID, WEBHOOK_SECRET, "the webhook's secret")
        fields = _object(self._read(secret_id, WEBHOOK_SECRET_ID), secret_id, '{"current": …, "previous": …}')
        previous = _text(fields, "previous", secret_id) if fields.get("previous") else None
        return WebhookSecrets(_text(fields, "current", secret_id), previous)

    def zenml_key(self) -> str | None:
        """API key of a ZenML service account; None where neither variable is set: a server without log-in.

        ``ZENML_STORE_API_KEY`` has the key; or ``BOXDROP_ZENML_SECRET`` names a secret which is the key, or
        JSON: ``{"key": "…"}``.

        Raises:
            SecretError: one sentence.
        """
        key = self._variable(ZENML_KEY)
        if key or not self._variable(ZENML_SECRET_ID):
            return key or None
        secret_id = self._variable(ZENML_SECRET_ID)
        value = self._read(secret_id, ZENML_SECRET_ID)
        return (
            _text(_object(value, secret_id, '{"key": …}'), "key", secret_id)
            if value.startswith("{")
            else value
        )

    def refresh(self) -> bool:
        """Clear the cache, after an unknown secret arrived or ours was refused.

        Returns:
            whether the next read may return something new; values younger than ten seconds stay cached.
        """
        with self._lock:
            now = self._clock()
            old = [name for name, (read_at, _) in self._kept.items() if now - read_at >= _REFRESH_S]
            for name in old:
                del self._kept[name]
            return bool(old)

    def _variable(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _secret_id(self, variable: str, plain: str, what: str) -> str:
        secret_id = self._variable(variable)
        if not secret_id:
            raise SecretError(
                f"{what} is missing: put it into the environment variable {plain}, or the id of its secret "
                f"in AWS Secrets Manager into {variable}"
            )
        return secret_id

    def _read(self, secret_id: str, variable: str) -> str:
        with self._lock:
            read_at, value = self._kept.get(secret_id, (0.0, ""))
            if value and self._clock() - read_at < self._ttl:
                return value
            value = self._ask(secret_id, variable).strip()
            if not value:
                raise SecretError(f"the secret {secret_id} is empty; store a value in it")
            self._kept[secret_id] = self._clock(), value
            return value

    def _ask(self, secret_id: str, variable: str) -> str:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise SecretError("AWS Secrets Manager needs boto3: pip install 'boxdrop[s3]'") from None
        try:
            if self._client is None:
                config = Config(
                    retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=10
                )
                self._client = boto3.client("secretsmanager", config=config)
            answer = self._client.get_secret_value(SecretId=secret_id)
        except ClientError as error:
            raise _refusal(secret_id, variable, error.response.get("Error", {})) from None
        except BotoCoreError as error:
            raise SecretError(f"the secret {secret_id} cannot be read: {error}") from None
        value = answer.get("SecretString")
        if not isinstance(value, str):
            raise SecretError(f"the secret {secret_id} is binary; store it as text")
        return value


def _refusal(secret_id: str, variable: str, details: Mapping[str, Any]) -> SecretError:
    code = str(details.get("Code"))
    if code == "ResourceNotFoundException":
        return SecretError(
            f"there is no secret {secret_id} with a value in this account and region; {variable} names it"
        )
    if code in ("AccessDeniedException", "AccessDenied"):
        return SecretError(
            f"these credentials may not read the secret {secret_id}: allow secretsmanager:GetSecretValue on "
            "it, and kms:Decrypt where it has a key of its own"
        )
    if code in ("UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException"):
        return SecretError(
            f"the secret {secret_id} cannot be read: the AWS credentials are not valid ({code})"
        )
    # Not Secrets Manager's message: its content is not guaranteed.
    return SecretError(f"the secret {secret_id} cannot be read: Secrets Manager answered {code}")


def _object(value: str, secret_id: str, shape: str) -> Mapping[str, Any]:
    """A secret as JSON. The parser's message would quote the secret, so it is left out."""
    try:
        fields = json.loads(value)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise SecretError(f"the secret {secret_id} must be a JSON object: {shape}")
    return fields


def _text(fields: Mapping[str, Any], key: str, secret_id: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise SecretError(f"the secret {secret_id} must hold the text `{key}`")
    if not value.strip():
        raise SecretError(f"the secret {secret_id} has an empty `{key}`")
    return value.strip()
