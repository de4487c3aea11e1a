"""The detector: a bundle, its ONNX Runtime sessions, and the way from images to detections."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from boxdrop.detect import postprocess, preprocess
from boxdrop.detect.binding import DeviceInputs
from boxdrop.detect.bundle import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, Bundle, cpu_graph
from boxdrop.detect.families import Family, Words, family_of
from boxdrop.domain.detections import (
    MAX_PER_LABEL,
    NMS_IOU,
    RIVAL_IOU,
    Detections,
    concatenate,
    select,
    suppress,
)
from boxdrop.domain.errors import BoxdropError, BundleError, LabelSetError
from boxdrop.domain.labels import LabelSet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Provider = Literal["cpu", "cuda"]

_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LABEL_SETS_KEPT = 32  # of query embeddings: 80 prompts are 160 KB
_TEXT_SHOWN = 60  # characters


class Detector:
    """Finds the things that a label set names.

    `detect` does all of it. A pipeline that decodes images in workers calls `preprocess` there and
    `candidates` where the model runs; then ``boxdrop.domain.detections.select(candidates,
    detector.thresholds(label_set))``.

    Every method may be called from several threads.

    Attributes:
        bundle: what was loaded.
        provider: where the model runs, ``cpu`` or ``cuda``.

    >>> from boxdrop import Detector, LabelSet
    >>> from boxdrop.demo import BUNDLE, SCENES
    >>> from boxdrop.domain.images import Limits, decode
    >>> scene = decode(sorted(SCENES.glob("*.jpg"))[0].read_bytes(), Limits())
    >>> fruit = LabelSet.from_short_form("pineapple, banana, apple")
    >>> [found] = Detector.load(BUNDLE).detect([scene.pixels], fruit)
    >>> found.boxes.shape[1], found.boxes.dtype  # left, top, right, bottom in upright pixels
    (4, dtype('float32'))
    >>> {fruit.names[label] for label in found.labels} <= {"pineapple", "banana", "apple"}
    True
    """

    def __init__(self, bundle: Bundle, provider: Provider = "cpu", threads: int | None = None) -> None:
        """See `load`."""
        if provider not in _PROVIDERS:
            raise BoxdropError(f"provider {provider!r} is unknown; use one of {', '.join(_PROVIDERS)}")
        self.bundle = bundle
        self.provider: Provider = provider
        self._threads = threads
        self._family: Family = family_of(bundle.family)
        with ThreadPoolExecutor(1) as beside:
            text = beside.submit(self._open_text)
            self._image_session = self._open(IMAGE_GRAPH)
            self._text_session, self._tokenizer = text.result()
        self._on_device = DeviceInputs(self._image_session, provider) if provider == "cuda" else None
        self._embedded: OrderedDict[tuple[str, ...], tuple[Words, ...]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, bundle: str | Path | Bundle, provider: Provider = "cpu", threads: int | None = None
    ) -> "Detector":
        """Open a bundle.

        Args:
            bundle: its folder, or what `Bundle.load` gave.
            provider: where the model runs. ``cuda`` never falls back to the processor.
            threads: of one run on the processor; None takes all cores.

        Raises:
            BundleError: the bundle cannot be used.
            BoxdropError: CUDA was asked for and cannot be had.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        return cls(opened, provider, threads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the image graph's outputs that `read` takes."""
        return self._family.outputs

    def model_version(self, label_set: LabelSet) -> str:
        """``bundle-name@detection-digest``: changes exactly when the detector's answers may change."""
        return f"{self.bundle.name}@{label_set.digest(self.bundle.digest)[:8]}"

    def thresholds(self, label_set: LabelSet) -> list[float]:
        """For each label the lowest score to show: its own, or the bundle's default.

        Raises:
            LabelSetError: a threshold is below the bundle's floor, under which nothing is kept.
        """
        default, floor = self.bundle.defaults.threshold, self.bundle.defaults.floor
        for label in label_set:
            if label.threshold is not None and label.threshold < floor:
                raise LabelSetError(
                    f"label {label.name!r}: threshold {label.threshold:g} is below {floor:g}, the floor "
                    "of detector "
                    f"{self.bundle.name}, under which it keeps nothing; raise the threshold to {floor:g} "
                    "or more"
                )
        return [default if label.threshold is None else label.threshold for label in label_set]

    def embed(self, label_set: LabelSet) -> tuple[Words, ...]:
        """A label set's prompts as the image graph takes them, computed once and kept.

        Returns:
            One entry for each pass of the image graph that the label set needs, together in the order of
            `LabelSet.prompts`. Do not write to its arrays.

        Raises:
            LabelSetError: a prompt is too long for the detector.
        """
        prompts = label_set.prompts
        with self._lock:
            known = self._embedded.get(prompts)
            if known is None:
                known = self._embedded[prompts] = self._encode(label_set)
                if len(self._embedded) > _LABEL_SETS_KEPT:
                    self._embedded.popitem(last=False)
            self._embedded.move_to_end(prompts)
            return known

    def preprocess(self, image: NDArray[np.uint8], reduction: int = 1) -> NDArray[np.float32]:
        """Make the model's input of one image.

        Args:
            image: uint8 [height, width, 3], red green blue, upright.
            reduction: by how much it was decoded smaller, at most by what `reduction_for` allows.

        Returns:
            float32 [3, H, W] for `candidates`. H and W differ from image to image where the family keeps the
            aspect (``Preprocess.resize`` is ``short-edge``).
        """
        return preprocess.prepare(image, self.bundle.preprocess, reduction)

    def reduction_for(self, width: int, height: int) -> int:
        """By how much, 1, 2, 4 or 8, an upright image may be decoded smaller for `preprocess`."""
        return preprocess.reduction_for(width, height, self.bundle.preprocess)

    def candidates(
        self,
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        sizes: Sequence[tuple[int, int]],
        label_set: LabelSet,
        nms_iou: float = NMS_IOU,
        limit: int = MAX_PER_LABEL,
        floor: float | None = None,
    ) -> list[Detections]:
        """Detect down to the floor: what thresholds and `boxdrop.domain.detections.select` choose from.

        Args:
            pixels: of each image float32 [3, H, W], of `preprocess`; a stacked [B, 3, H, W], too. What an
                image gets does not depend on the others in its batch.
            sizes: upright (width, height) of each image in pixels.
            label_set: what to look for.
            nms_iou, limit: see `boxdrop.domain.detections.suppress`.
            floor: lowest score kept; None takes the bundle's.

        Raises:
            BoxdropError: the model's answer for an image is not finite; says which.
        """
        if len(pixels) != len(sizes):
            raise ValueError(f"{len(pixels)} images but {len(sizes)} sizes")
        if not len(pixels):
            return []
        return self.read(self.infer(pixels, label_set), sizes, label_set, nms_iou, limit, floor)

    def infer(
        self,
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        label_set: LabelSet,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[NDArray[np.float32]]:
        """Run the model: the part of `candidates` that takes the time, all cores, or the GPU.

        Args:
            pixels: see `candidates`.
            label_set: what to look for.
            options: lets another thread call the run off, by ``options.terminate = True``.

        Returns:
            the model's answer, for `read`; the first axis of each array counts the images.
        """
        return self.ask(self._family.outputs, pixels, label_set, options)

    def ask(
        self,
        outputs: Sequence[str],
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        label_set: LabelSet,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[NDArray[np.float32]]:
        """Run the model for outputs of its image graph by name: all of them, pass after pass."""
        images = self._family.images(pixels)
        answer: list[NDArray[np.float32]] = []
        for words in self.embed(label_set):
            if self._on_device is not None:
                answer += self._on_device.run(outputs, images, words, options)
            else:
                answer += self._image_session.run(list(outputs), images | words.inputs, options)
        return answer

    def read(
        self,
        answer: list[NDArray[np.float32]],
        sizes: Sequence[tuple[int, int]],
        label_set: LabelSet,
        nms_iou: float = NMS_IOU,
        limit: int = MAX_PER_LABEL,
        floor: float | None = None,
    ) -> list[Detections]:
        """Read the model's answer: the part of `candidates` that may run beside the model's next run.

        Args:
            answer: what `infer` returned.
            sizes, label_set, nms_iou, limit, floor: see `candidates`.

        Raises:
            BoxdropError: the answer for an image is not finite; says which.
        """
        for number in range(len(sizes)):
            if not all(np.isfinite(output[number]).all() for output in answer):
                raise BoxdropError(
                    f"image {number} of the batch: detector {self.bundle.name} answered with numbers that "
                    "are not "
                    "finite; its graph or this runtime is broken: export the bundle again, or use "
                    "another provider"
                )
        lowest = self.bundle.defaults.floor if floor is None else floor
        owners = np.asarray(label_set.prompt_labels)
        upright = np.array(sizes, np.int64)
        width = len(self._family.outputs)
        found: list[list[Detections]] = [[] for _ in sizes]
        first = 0  # the queries of a later pass are numbered on
        for number, words in enumerate(self.embed(label_set)):
            outputs = answer[number * width : (number + 1) * width]
            scores, boxes = self._family.decode(outputs, upright, words)
            for image, size in enumerate(sizes):
                merged = postprocess.candidates_of(
                    scores[image], boxes[image], owners[words.prompts], lowest, size
                )
                found[image].append(
                    replace(merged, prompts=words.prompts[merged.prompts], queries=merged.queries + first)
                )
            first += boxes.shape[1]
        return [suppress(concatenate(passes), nms_iou, limit) for passes in found]

    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        label_set: LabelSet,
        rival_iou: float | None = RIVAL_IOU,
        nms_iou: float = NMS_IOU,
        limit: int = MAX_PER_LABEL,
    ) -> list[Detections]:
        """Detect in one batch of images.

        Args:
            images: each uint8 [height, width, 3], red green blue, upright.
            label_set: what to look for; its thresholds apply.
            rival_iou: see `boxdrop.domain.detections.select`.
            nms_iou, limit: see `boxdrop.domain.detections.suppress`.

        Returns:
            Detections of each image, best first.

        Raises:
            BoxdropError: a threshold below the floor, a prompt too long, an answer that is not finite.
        """
        thresholds = self.thresholds(label_set)
        if not images:
            return []
        pixels = [self.preprocess(image) for image in images]
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        found = self.candidates(pixels, sizes, label_set, nms_iou, limit)
        return [select(candidates, thresholds, rival_iou) for candidates in found]

    def _open_text(self) -> tuple[onnxruntime.InferenceSession, "Tokenizer"]:
        """The words' side: a third of the time that opening takes, so it is done beside the image's."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.bundle.path / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return self._open(TEXT_GRAPH), tokenizer

    def _encode(self, label_set: LabelSet) -> tuple[Words, ...]:
        bundle, session, tokenizer = self.bundle, self._text_session, self._tokenizer
        texts = [bundle.text.fill(prompt) for prompt in label_set.prompts]
        for number, length in enumerate(self._family.lengths(texts, tokenizer)):
            if length > bundle.text.max_length:
                label = label_set.labels[label_set.prompt_labels[number]]
                raise LabelSetError(
                    f"label {_shortened(label.name)!r}: {_shortened(texts[number])!r} is {length} tokens "
                    f"long, detector {bundle.name} reads {bundle.text.max_length}; say it in fewer words"
                )
        passes = self._family.encode(texts, tokenizer, bundle.text, session)
        for words in passes:
            for array in words.inputs.values():
                array.setflags(write=False)
                if not np.isfinite(array).all():
                    names = {label_set.labels[label_set.prompt_labels[row]].name for row in words.prompts}
                    raise BoxdropError(
                        f"labels {', '.join(sorted(names))}: detector {bundle.name} encodes them as numbers "
                        "that are not finite; export the bundle again"
                    )
        return passes

    def _open(self, graph: str) -> onnxruntime.InferenceSession:
        provider = _PROVIDERS[self.provider]
        if provider not in onnxruntime.get_available_providers():
            raise BoxdropError(
                "CUDA was asked for, but the ONNX Runtime installed here has no CUDA; "
                "install onnxruntime-gpu instead of onnxruntime, or ask for the provider cpu"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; warnings about graph clean-up are of no use to anyone
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        if graph == TEXT_GRAPH:  # it runs once for a label set: less work than rearranging its weights
            options.add_session_config_entry("session.disable_prepacking", "1")
        path = self.bundle.path / graph
        rewritten = cpu_graph(graph)
        if (
            self.provider == "cpu"
            and rewritten in self.bundle.files
            and self.bundle.runtime == onnxruntime.__version__
        ):
            path = self.bundle.path / rewritten
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # its exception classes have no common base but this
            raise BundleError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}"
            ) from None
        # Where CUDA's libraries fail to load, ONNX Runtime goes on with the processor, 50 times slower, and
        # says nothing.
        if session.get_providers()[0] != provider:
            raise BoxdropError(
                f"CUDA was asked for, but ONNX Runtime {onnxruntime.__version__} fell back to the processor; "
                "check that the driver, CUDA and cuDNN fit it (nvidia-smi), or ask for the provider cpu"
            )
        session.disable_fallback()
        return session


def _shortened(text: str) -> str:
    """The beginning of a text: a reason keeps 250 characters, and the way out comes last."""
    return text if len(text) <= _TEXT_SHOWN else f"{text[: _TEXT_SHOWN - 1]}…"
