"""Model inputs on the GPU, copied there from pinned memory, which the driver can read directly.

Without it, each run allocates all inputs again and copies them from pageable memory, of which the driver
first makes a copy of its own. Here a label set's words are copied once, and a batch is copied from pinned
memory to a buffer that the next batch of its shape reuses.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from boxdrop.detect.families import Words

_SHAPES_KEPT: Final = 8  # for families with varying input sizes: a batch of 8 at 800×1333 has 100 MB
_WORDS_KEPT: Final = 32

Array = NDArray[Any]


class DeviceInputs:
    """Runs a session with its inputs on a device. Safe to use from several threads.

    Args:
        session: of the image graph.
        device: ``cuda``; ``cpu`` works too, without any gain.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        self._session = session
        self._device = device
        self._pinned = _pinned_memory(device)
        self._words: OrderedDict[int, tuple[Words, dict[str, onnxruntime.OrtValue]]] = OrderedDict()
        self._idle: list[_Buffers] = []
        self._lock = threading.Lock()

    def run(
        self,
        outputs: Sequence[str],
        images: Mapping[str, Array],
        words: Words,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[Array]:
        """Like ``session.run`` with the inputs `images` and `words`."""
        with self._lock:
            buffers = self._idle.pop() if self._idle else _Buffers(self._device, self._pinned)
        try:
            binding = self._session.io_binding()
            for name, value in self._on_device(words).items():
                binding.bind_ortvalue_input(name, value)
            for name, array in images.items():
                binding.bind_ortvalue_input(name, buffers.copy(name, array))
            for name in outputs:
                binding.bind_output(name)  # in CPU memory
            self._session.run_with_iobinding(binding, options)
            answer: list[Array] = binding.copy_outputs_to_cpu()
            return answer
        finally:
            with self._lock:
                self._idle.append(buffers)

    def _on_device(self, words: Words) -> dict[str, onnxruntime.OrtValue]:
        with self._lock:
            known = self._words.get(id(words))  # referenced below, so no other object gets this id
            if known is None:
                values = {
                    name: onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device)
                    for name, array in words.inputs.items()
                }
                known = self._words[id(words)] = (words, values)
                if len(self._words) > _WORDS_KEPT:
                    self._words.popitem(last=False)
            return known[1]


class _Buffers:
    """Pairs of pinned and device memory by input and shape, used by one run at a time."""

    def __init__(self, device: str, pinned: Any) -> None:
        self._device = device
        self._pinned = pinned
        self._pairs: OrderedDict[Any, tuple[Array | None, Any, Any]] = OrderedDict()

    def copy(self, name: str, array: Array) -> Any:
        """Copy an array to the device; returns the OrtValue there."""
        key = (name, array.shape, array.dtype.str)
        pair = self._pairs.pop(key, None) or self._make(array)
        self._pairs[key] = pair
        if len(self._pairs) > _SHAPES_KEPT:
            self._pairs.popitem(last=False)
        window, staged, target = pair
        if window is None:
            target.update_inplace(np.ascontiguousarray(array))
        else:
            np.copyto(window, array)
            target.update_inplace(staged)
        return target

    def _make(self, array: Array) -> tuple[Array | None, Any, Any]:
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        target = make(list(array.shape), array.dtype.type, self._device)
        if self._pinned is None:
            return None, None, target
        staged = make(list(array.shape), array.dtype.type, memory_info=self._pinned)
        return staged.numpy(), staged, target


def _pinned_memory(device: str) -> Any:
    """ONNX Runtime's allocator of memory that the GPU reads directly; None if it has none."""
    if device != "cuda":
        return None
    kind = onnxruntime.OrtDeviceMemoryType.HOST_ACCESSIBLE
    for found in onnxruntime.get_ep_devices():
        if found.ep_name == "CUDAExecutionProvider":
            return found.memory_info(kind)
    return None
