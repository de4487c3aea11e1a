"""The GPU's container holds what the job needs and nothing else."""

import re
import subprocess
import sys

from tests.imports import ROOT, reached_from

ALLOWED = {"PIL", "boto3", "botocore", "numpy", "onnxruntime", "pillow_heif", "pynvml", "tokenizers", "yaml"}


def test_the_job_reaches_no_torch_no_label_studio_and_no_command_line() -> None:
    reached, outside = reached_from((ROOT / "functions" / "job").rglob("*.py"))
    assert outside == ALLOWED
    assert not [
        file for file in reached if file.startswith(("model_export/", "boxdrop/cli", "boxdrop/local"))
    ]
    assert not [file for file in reached if "labelstudio" in file or "annotate" in file]


def test_the_jobs_requirements_are_what_it_reaches() -> None:
    """Everything is pinned with hashes, and ONNX Runtime is the one with CUDA, not both."""
    text = (ROOT / "requirements" / "job.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    needed = {
        "boto3",
        "botocore",
        "numpy",
        "nvidia-ml-py",
        "onnxruntime-gpu",
        "pillow",
        "pillow-heif",
        "pyyaml",
    }
    assert needed | {"tokenizers"} <= pinned
    assert not pinned & {"onnxruntime", "torch", "transformers", "label-studio-sdk", "zenml", "pydantic"}
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "index-url" not in text


def test_loading_the_job_loads_only_what_it_needs() -> None:
    code = "import functions.job.__main__, sys; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"torch", "transformers", "label_studio_sdk", "pandas", "pydantic", "click", "rich"}
