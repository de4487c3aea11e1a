"""The AWS command line as anybody has it, in a venv of its own: it pins botocore."""

import subprocess
from pathlib import Path

from boxdrop.servers.environment import Environment
from tests.label_studio_server import SHARED_HOME, quiet


def aws_cli() -> Path:
    """The program; installed once, beside the servers' venvs."""
    environment = Environment(
        SHARED_HOME / "aws-cli" / "venv",
        Path(__file__).with_name("aws-cli-requirements.txt"),
        "the AWS command line",
        200_000_000,
    )
    environment.path.parent.mkdir(parents=True, exist_ok=True)
    environment.install(quiet)
    return environment.path / "bin" / "aws"


def run(line: str, folder: Path) -> str:
    """Run a line of shell, as a user pastes it, with that program in front of the path."""
    shell = f'PATH="{aws_cli().parent}:$PATH"\n{line}'
    done = subprocess.run(["sh", "-c", shell], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
