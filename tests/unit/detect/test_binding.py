"""Inputs bound to a device give what plain runs give. The device here is the processor: there is no GPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from boxdrop.detect import Detector
from boxdrop.detect.binding import DeviceInputs
from boxdrop.domain.labels import LabelSet


def test_bound_inputs_answer_as_plain_ones_whatever_the_shape_and_the_thread(toy_detector: Detector) -> None:
    bound = DeviceInputs(toy_detector._image_session, "cpu")
    random = np.random.default_rng(0)
    words = [toy_detector.embed(LabelSet.from_short_form(text))[0] for text in ("red", "green, blue")]
    jobs = [(random.random((1 + number % 3, 3, 8, 8), np.float32), words[number % 2]) for number in range(60)]

    def run(number: int) -> list[NDArray[np.float32]]:
        pixels, sought = jobs[number]
        return bound.run(toy_detector.outputs, {"pixel_values": pixels}, sought)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(run, range(len(jobs))))
    for (pixels, sought), answer in zip(jobs, answers, strict=True):
        plain = toy_detector._image_session.run(
            list(toy_detector.outputs), {"pixel_values": pixels, **sought.inputs}
        )
        assert all(np.array_equal(ours, theirs) for ours, theirs in zip(answer, plain, strict=True))


def test_a_detector_on_the_processor_binds_nothing(toy_detector: Detector) -> None:
    assert toy_detector._on_device is None
