"""What a function loads before it can answer its first call."""

import subprocess
import sys

import pytest

from tests.imports import ROOT

HEAVY = (
    *("PIL", "numpy", "yaml", "boto3", "label_studio_sdk"),
    *("requests", "onnxruntime", "zenml", "rich", "click"),
)
"""Label Studio waits one second for the webhook; with these, importing it took 0.5 to 0.9 s."""


def loaded(handler: str, packages: tuple[str, ...]) -> list[str]:
    """Which of these packages a fresh interpreter holds after importing a handler."""
    program = (
        f"import sys, functions.{handler}.handler; "
        f"print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({packages!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_webhook_loads_no_client_decoder_or_parser() -> None:
    assert loaded("webhook", HEAVY) == []


@pytest.mark.parametrize("handler", ["dispatch", "launch", "reconcile"])
def test_functions_that_read_only_names_load_no_decoder(handler: str) -> None:
    assert loaded(handler, ("PIL", "onnxruntime", "label_studio_sdk", "zenml", "rich", "click")) == []
