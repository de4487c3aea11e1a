"""What the deployed functions import of this package, they can import without its extra."""

import subprocess
import sys


def test_credits_on_tasks_need_neither_http_client_nor_image_hashes() -> None:
    program = (
        "import sys; import boxdrop.pipeline.credits, boxdrop.annotate.run; "
        "print(sorted({'httpx', 'imagehash', 'scipy', 'pywt'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
