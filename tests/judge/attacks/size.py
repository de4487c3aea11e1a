"""Very many images at once. It takes minutes, so it runs only by name: `--attacks three_thousand_images`."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.judge.ring import Ring
from tests.judge.system import memory_of

IMAGES = 3_000
_AT_ONCE = 8
_PATIENCE_S = 2_400.0
_LOOK_S = 5.0


def three_thousand_images(ring: Ring) -> None:
    """Upload them at once; note the seconds until the last task, and each process's largest memory."""
    ring.hands.labels(ring.project)
    bodies = [ring.hands.picture() for _ in range(IMAGES)]
    began = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(ring.hands.put, ring.keys(IMAGES), bodies))
    uploaded_s = time.monotonic() - began
    while (tasks := ring.task_count()) < IMAGES:
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError(f"{tasks} of {IMAGES} tasks after {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_S)
    memory = {}
    for name, pid in ring.system.processes().items():
        with suppress(OSError, StopIteration):  # it has ended
            memory[name] = round(memory_of(pid) / 2**20)
    seconds = time.monotonic() - began
    ring.journal.note(
        "measured", images=IMAGES, uploaded_s=round(uploaded_s), tasks_s=round(seconds), memory_mib=memory
    )


ATTACKS = (three_thousand_images,)
