"""Simulate work that is longer than one call may take: a comparison, a launch, a backlog on SageMaker.

    python -m benchmarks.time_limits [--seed 19]

Comparison: a page of 500 tasks and its rows takes 1 to 2 s. Launch: 100 to 685 images are claimed in a
second, as measured. SageMaker: a shard keeps an instance busy for 70 to 130 s. Each is drawn anew for each
page, launch or shard. Limits are those of `boxdrop.topology` and of the functions.
"""

import argparse
import random
from typing import Final

from boxdrop.aws.launchers import SageMakerLauncher
from boxdrop.topology import CLAIM_S, FUNCTIONS, JOB_TIMEOUT_S, LEASE_S, SHARD_IMAGES, SYNC_HOURS
from functions.collect.handler import SLICE_S

_PAGE: Final = 500
_DAY_S: Final = 86_400.0
_SHARD_S: Final = 100.0


def compare_in_one_call(tasks: int, chance: random.Random) -> tuple[bool, float, float]:
    """The comparison that collect ran before.

    Returns:
        Whether it finished within a day, its seconds, and for how many of them publishers waited.
    """
    limit, now, waited = float(FUNCTIONS["collect"].timeout_s), 0.0, 0.0
    while now < _DAY_S:
        took = sum(chance.uniform(1.0, 2.0) for _ in range(-(-tasks // _PAGE)))
        if took <= limit:
            return True, now + took, waited + took
        # Lambda ends the call; the lease of the dead call holds on, and the schedule starts the next one.
        waited += limit + LEASE_S
        now += SYNC_HOURS * 3600
    return False, _DAY_S, waited


def compare_in_slices(tasks: int, chance: random.Random) -> tuple[bool, float, float]:
    """The comparison that goes on from a cursor; returns as `compare_in_one_call`.

    Publishers wait for one slice at most.
    """
    pages, now, longest = -(-tasks // _PAGE), 0.0, 0.0
    while pages > 0:
        began = now
        while pages > 0 and now - began < SLICE_S:
            now += chance.uniform(1.0, 2.0)
            pages -= 1
        longest = max(longest, now - began)
        now += 1.0  # the message to itself
    return now < _DAY_S, now, longest


def launch(images: int, limit_s: float | None, chance: random.Random) -> tuple[int, int]:
    """Launch a project with this many wanted images in one run.

    Args:
        limit_s: after which a launch submits what it has claimed and asks for another; None: never.

    Returns:
        Images that were submitted within ten launches, and the launches that Lambda ended.
    """
    submitted = died = 0
    for _ in range(10):
        left = images - submitted
        if left == 0:
            break
        per_s = chance.uniform(100, 685)
        claimed = left if limit_s is None else min(left, int(per_s * limit_s))
        if claimed / per_s > FUNCTIONS["launch"].timeout_s:
            died += 1  # its run is released at its deadline, and the same happens again
            continue
        submitted += claimed
    return submitted, died


def sagemaker(
    images: int, instances: int, patience_s: float | None, chance: random.Random
) -> tuple[int, int]:
    """Work off a backlog of shards that were all requested at once.

    Args:
        patience_s: after which a shard that has not ended is requested again; None: boxdrop looks whether the
            request has ended, and leaves one alone that waits.

    Returns:
        Shards, and shards that were computed.
    """
    shards = -(-images // SHARD_IMAGES)
    waiting = [(0.0, shard) for shard in range(shards)]
    free = [0.0] * instances
    done: set[int] = set()
    computed = 0
    while waiting and computed < 100 * shards:
        asked, shard = waiting.pop(0)
        begin = max(min(free), asked)
        if begin - asked > SageMakerLauncher.REQUEST_TTL_S:
            waiting.append((begin, shard))  # it expired in the queue: nothing was computed
            continue
        end = begin + chance.uniform(0.7, 1.3) * _SHARD_S
        free[free.index(min(free))] = end
        computed += 1
        if patience_s is not None and end - asked > patience_s and shard not in done:
            waiting.append((asked + patience_s, shard))  # requested again while the first still waited
        done.add(shard)
    return shards, computed


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=19)
    chance = random.Random(parser.parse_args().seed)
    print("| comparison of | rule | finishes | minutes | publishers wait at most, s |")
    print("| --- | --- | --- | --- | --- |")
    for tasks in (20_000, 100_000, 1_000_000):
        for name, compare in (("one call (before)", compare_in_one_call), ("slices", compare_in_slices)):
            finished, seconds, waited = compare(tasks, chance)
            said = f"{seconds / 60:.0f}" if finished else "–"
            print(f"| {tasks:,} tasks | {name} | {'yes' if finished else 'no'} | {said} | {waited:,.0f} |")
    print("\n| launch of | rule | submitted in ten launches | launches that died |")
    print("| --- | --- | --- | --- |")
    for images in (20_000, 60_000, 200_000):
        for name, limit in (("all at once (before)", None), (f"{CLAIM_S:.0f} s, then another", CLAIM_S)):
            submitted, died = launch(images, limit, chance)
            print(f"| {images:,} images | {name} | {submitted:,} | {died} |")
    print("\n| SageMaker, images | instances | rule | shards | computed |")
    print("| --- | --- | --- | --- | --- |")
    for images, instances in ((20_000, 2), (200_000, 2), (1_000_000, 10)):
        for rule, patience in (("an hour (before)", float(JOB_TIMEOUT_S)), ("asked", None)):
            shards, computed = sagemaker(images, instances, patience, chance)
            print(f"| {images:,} | {instances} | {rule} | {shards} | {computed} |")


if __name__ == "__main__":
    main()
