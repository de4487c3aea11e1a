"""Secrets, against a real HTTP Secrets Manager (moto server on loopback)."""

import json
from collections.abc import Mapping
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from boxdrop.aws.secrets import LabelStudioAccess, SecretError, Secrets, WebhookSecrets
from tests.moto_server import MakeClient, aws, endpoint

__all__ = ["aws", "endpoint"]

HIDDEN = "tok3n-that-nobody-sees"


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def manager(aws: MakeClient) -> Any:
    return aws("secretsmanager")


@pytest.fixture
def store(manager: Any, request: pytest.FixtureRequest) -> Any:
    """Stores a value, and returns the secret's ARN."""

    def put(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        name = f"boxdrop/{abs(hash(request.node.nodeid)):x}"
        try:
            answer = manager.create_secret(Name=name, SecretString=text)
        except manager.exceptions.ResourceExistsException:
            answer = manager.put_secret_value(SecretId=name, SecretString=text)
        return str(answer["ARN"])

    return put


def secrets(client: Any = None, environ: Mapping[str, str] | None = None, **options: Any) -> Secrets:
    return Secrets(client=client, environ=environ or {}, **options)


def test_a_token_in_the_environment_wins_without_a_call() -> None:
    environ = {"LABEL_STUDIO_API_KEY": f" {HIDDEN}\n", "BOXDROP_LABEL_STUDIO_SECRET": "elsewhere"}
    assert secrets(environ=environ).label_studio() == LabelStudioAccess(HIDDEN)
    environ["LABEL_STUDIO_URL"] = "http://here"
    assert secrets(environ=environ).label_studio().url == "http://here"


def test_a_token_is_read_from_secrets_manager_plain_or_with_its_address(manager: Any, store: Any) -> None:
    found = secrets(manager, {"BOXDROP_LABEL_STUDIO_SECRET": store(HIDDEN)}).label_studio()
    assert found == LabelStudioAccess(HIDDEN)
    arn = store({"url": "https://labels.example.com", "token": HIDDEN})
    found = secrets(manager, {"BOXDROP_LABEL_STUDIO_SECRET": arn}).label_studio()
    assert found == LabelStudioAccess(HIDDEN, "https://labels.example.com")


def test_a_personal_access_token_is_not_parsed_as_json(manager: Any, store: Any) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.c2lnbmF0dXJl"
    arn = store(token)
    assert secrets(manager, {"BOXDROP_LABEL_STUDIO_SECRET": arn}).label_studio().token == token


def test_webhook_secrets_come_from_the_environment_or_secrets_manager(manager: Any, store: Any) -> None:
    assert secrets(environ={"BOXDROP_WEBHOOK_SECRET": "new"}).webhook().valid == ("new",)
    assert secrets(environ={"BOXDROP_WEBHOOK_SECRET": "new, old"}).webhook().valid == ("new", "old")
    environ = {"BOXDROP_WEBHOOK_SECRET_ID": store({"current": "new", "previous": "old"})}
    assert secrets(manager, environ).webhook() == WebhookSecrets("new", "old")
    store({"current": "new", "previous": None})
    assert secrets(manager, environ).webhook().valid == ("new",)


def test_a_rotated_secret_is_in_use_after_five_minutes_or_when_asked_for(manager: Any, store: Any) -> None:
    clock = Clock()
    environ = {"BOXDROP_WEBHOOK_SECRET_ID": store({"current": "one"})}
    kept = secrets(manager, environ, clock=clock)
    assert kept.webhook().valid == ("one",)
    store({"current": "two", "previous": "one"})
    assert kept.webhook().valid == ("one",)
    assert not kept.refresh()  # too soon: strangers must not make us ask each time
    assert kept.webhook().valid == ("one",)
    clock.time += 11
    assert kept.refresh()
    assert kept.webhook().valid == ("two", "one")
    store({"current": "two"})
    clock.time += 301
    assert kept.webhook().valid == ("two",)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"token": ""}, "has an empty `token`"),
        ({"url": "https://a"}, "must hold the text `token`"),
        ({"token": 7}, "must hold the text `token`"),
        ('{"token": "' + HIDDEN, "must be a JSON object"),
        ("  ", "is empty; store a value"),
    ],
)
def test_a_secret_of_the_wrong_shape_is_one_sentence_without_it(
    manager: Any, store: Any, value: Any, sentence: str
) -> None:
    with pytest.raises(SecretError, match=sentence) as caught:
        secrets(manager, {"BOXDROP_LABEL_STUDIO_SECRET": store(value)}).label_studio()
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("value", [HIDDEN, ["current"], {"current": ""}, {"previous": HIDDEN}])
def test_webhook_secrets_of_the_wrong_shape_are_one_sentence(manager: Any, store: Any, value: Any) -> None:
    with pytest.raises(SecretError, match=r"^the secret arn:\S+ (must|has)") as caught:
        secrets(manager, {"BOXDROP_WEBHOOK_SECRET_ID": store(value)}).webhook()
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("value", [",", "a,", ",b", "a,b,c"])
def test_webhook_secrets_in_the_environment_are_one_or_two(value: str) -> None:
    with pytest.raises(SecretError, match="one secret, or two"):
        secrets(environ={"BOXDROP_WEBHOOK_SECRET": value}).webhook()


def test_a_missing_secret_says_where_to_put_it(manager: Any) -> None:
    with pytest.raises(SecretError, match=r"LABEL_STUDIO_API_KEY, or the id .* BOXDROP_LABEL_STUDIO_SECRET$"):
        secrets().label_studio()
    with pytest.raises(SecretError, match=r"BOXDROP_WEBHOOK_SECRET, or the id .* BOXDROP_WEBHOOK_SECRET_ID$"):
        secrets().webhook()
    with pytest.raises(SecretError, match=r"there is no secret nowhere .* BOXDROP_LABEL_STUDIO_SECRET names"):
        secrets(manager, {"BOXDROP_LABEL_STUDIO_SECRET": "nowhere"}).label_studio()


class Refuses:
    """A client that refuses so, and quotes the secret."""

    def __init__(self, code: str) -> None:
        self.code = code

    def get_secret_value(self, **_: Any) -> Any:
        raise ClientError({"Error": {"Code": self.code, "Message": HIDDEN}}, "GetSecretValue")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("AccessDeniedException", "these credentials may not read the secret s: allow"),
        ("ExpiredTokenException", "the AWS credentials are not valid"),
        ("DecryptionFailure", "Secrets Manager answered DecryptionFailure"),
    ],
)
def test_a_refusal_is_one_sentence(code: str, sentence: str) -> None:
    with pytest.raises(SecretError, match=sentence) as caught:
        secrets(Refuses(code), {"BOXDROP_LABEL_STUDIO_SECRET": "s"}).label_studio()
    assert HIDDEN not in str(caught.value)


def test_secrets_manager_out_of_reach_is_one_sentence() -> None:
    client = boto3.client(
        "secretsmanager",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}),
    )
    with pytest.raises(SecretError, match=r"^the secret s cannot be read: Could not connect"):
        secrets(client, {"BOXDROP_LABEL_STUDIO_SECRET": "s"}).label_studio()


def test_no_repr_shows_a_secret() -> None:
    for held in (LabelStudioAccess(HIDDEN, "http://a"), WebhookSecrets(HIDDEN, HIDDEN)):
        assert HIDDEN not in repr(held)
        assert HIDDEN not in f"{held}"
