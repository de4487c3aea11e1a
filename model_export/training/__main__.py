"""``python -m model_export.training FOLDER``: train as the plan in a folder says, or go on.

Exit codes, as those of `functions.job`: 0 the training is over, 1 it failed, 75 it was asked to end
(SIGTERM, SIGINT) and goes on from its checkpoint when it is called again.
"""

import os
import signal
import sys
from pathlib import Path

from boxdrop.job.stop import Stop

DONE, BROKEN, AGAIN = 0, 1, 75


def main(path: str) -> int:
    """Train; returns the exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the labels of a batch cannot be split between GPUs
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.ask())
    from boxdrop.domain.errors import BoxdropError
    from boxdrop.training.folder import TrainingFolder

    try:
        from model_export.training.trainer import InterruptedTrainingError, train
    except ModuleNotFoundError as error:
        print(f'Error: {error.name} is not installed: pip install "boxdrop[train]"', flush=True)
        return BROKEN
    try:
        ended = train(TrainingFolder(Path(path)), stop, lambda line: print(line, flush=True))
    except InterruptedTrainingError as error:
        print(error, flush=True)
        return AGAIN
    except BoxdropError as error:
        print(f"Error: {error}", flush=True)
        return BROKEN
    print(f"ended {ended.why}; the best epoch is {ended.epoch}", flush=True)
    return DONE


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
