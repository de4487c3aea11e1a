"""`boxdrop train` runs where PyTorch is not installed: the training has an environment of its own."""

import subprocess
import sys


def test_the_command_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import boxdrop.cli.train, boxdrop.training.run, boxdrop.training.filling, "
        "boxdrop.training.guard; print(*{'torch', 'transformers', 'accelerate'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
