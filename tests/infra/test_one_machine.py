"""The example of a machine without AWS: units that systemd accepts, and commands that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from boxdrop.cli import boxdrop

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "one-machine"
UNITS = sorted(path.name for path in EXAMPLE.glob("boxdrop*"))


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_units(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    for unit in UNITS:
        text = (EXAMPLE / unit).read_text().replace("/srv/boxdrop/venv/bin/boxdrop", "/bin/true")
        (tmp_path / unit).write_text(text.replace("User=boxdrop\n", ""))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    about = [line for line in done.stderr.splitlines() if "boxdrop" in line]
    assert about == []


@pytest.mark.parametrize("name", [*UNITS, "compose.yaml"])
def test_the_commands_of_the_example_exist(name: str) -> None:
    for arguments in re.findall(r"bin/boxdrop (local [^\"\n]*)", (EXAMPLE / name).read_text()):
        group, sub, *options = arguments.split()
        context = boxdrop.make_context("boxdrop", [group, sub, "--help"], resilient_parsing=True)
        local = boxdrop.get_command(context, group)
        assert local is not None
        command = local.get_command(context, sub)  # type: ignore[attr-defined]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known


def test_the_containers_share_one_network_and_keep_their_data() -> None:
    services = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    assert services["services"]["caddy"]["network_mode"] == "service:boxdrop"
    mounted = {
        volume.partition(":")[0] for each in services["services"].values() for volume in each["volumes"]
    }
    assert set(services["volumes"]) <= mounted
    home = services["services"]["boxdrop"]["environment"]["BOXDROP_HOME"]
    assert any(home.startswith(each.split(":")[1]) for each in services["services"]["boxdrop"]["volumes"])
