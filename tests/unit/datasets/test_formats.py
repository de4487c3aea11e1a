"""The table of formats, and what everything that lists them must agree on."""

import subprocess
import sys
from pathlib import Path

from boxdrop.datasets.formats import FORMATS

DOCS = Path(__file__).parents[3] / "docs/datasets.md"


def test_the_documentation_has_a_row_for_each_format() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for each in FORMATS.values():
        assert f"| `{each.name}` | {each.read_by} | {each.keeps} | {each.drops} |" in text


def test_data_sets_need_no_torch() -> None:
    code = "import sys, boxdrop.datasets.export, boxdrop.datasets.samples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
