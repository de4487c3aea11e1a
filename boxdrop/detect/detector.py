"""The detector: a bundle, its ONNX Runtime sessions, and the way from images to detections.

It is long because words, lessons, features and images all go through the same sessions and their caches.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from boxdrop.detect import postprocess, preprocess
from boxdrop.detect.allotment import Allotment
from boxdrop.detect.binding import DeviceInputs
from boxdrop.detect.bundle import IMAGE_GRAPH, TEXT_GRAPH, TOKENIZER, Bundle
from boxdrop.detect.contract import FIXED
from boxdrop.detect.families import Family, FixedClasses, Words, family_of
from boxdrop.detect.families.owl import QUERIES, Owl
from boxdrop.detect.features import Features, features_of, probes
from boxdrop.detect.lessons import add_lesson, decode_heads, taught_labels
from boxdrop.detect.sessions import PROVIDERS, Provider, open_session
from boxdrop.detect.settings import thresholds_of
from boxdrop.domain.detections import (
    MAX_PER_LABEL,
    NMS_IOU,
    RIVAL_IOU,
    Detections,
    concatenate,
    select,
    suppress,
)
from boxdrop.domain.errors import BoxdropError, BundleError, LabelSetError, LessonError
from boxdrop.domain.labels import LabelSet
from boxdrop.domain.lesson import Lesson, check_fits

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LABEL_SETS_KEPT = 32  # cached query embeddings: 80 prompts need 160 KB
_TEXT_SHOWN = 60  # characters


@dataclass(frozen=True, eq=False, slots=True)
class Share:
    """What one detector looks for.

    Attributes:
        label_set: its labels.
        allotment: where they are in the whole label set; None if this is the whole.
    """

    detector: "Detector"
    label_set: LabelSet
    allotment: Allotment | None = None


class Detector:
    """Detects the objects of a label set.

    `detect` does everything. A pipeline that decodes images in workers calls `preprocess` there, and
    `candidates` in the thread that runs the model; then ``boxdrop.domain.detections.select(candidates,
    detector.thresholds(label_set))``.

    All methods are thread-safe.

    Attributes:
        bundle: the loaded bundle.
        provider: ``cpu`` or ``cuda``.

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
        if provider not in PROVIDERS:
            raise BoxdropError(f"provider {provider!r} is unknown; use one of {', '.join(PROVIDERS)}")
        self.bundle = bundle
        self.provider: Provider = provider
        self._threads = threads
        self._family: Family | FixedClasses
        if bundle.family == FIXED:
            self._family = FixedClasses(bundle)
            self._image_session = open_session(bundle, IMAGE_GRAPH, provider, threads)
            self._family.check(self._image_session)
        else:
            self._family = family_of(bundle.family)
            with ThreadPoolExecutor(1) as beside:
                text = beside.submit(self._open_text)
                self._image_session = open_session(bundle, IMAGE_GRAPH, provider, threads)
                self._text_session, self._tokenizer = text.result()
        # Some graphs were exported for one image.
        self._one_by_one = self._image_session.get_inputs()[0].shape[:1] == [1]
        self._on_device = DeviceInputs(self._image_session, provider) if provider == "cuda" else None
        self._embedded: OrderedDict[tuple[object, ...], tuple[Words, ...]] = OrderedDict()
        self._lessons: dict[str, Lesson] = {}
        self._probes: Words | None = None
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, bundle: str | Path | Bundle, provider: Provider = "cpu", threads: int | None = None
    ) -> "Detector":
        """Open a bundle.

        Args:
            bundle: its folder, or the result of `Bundle.load`.
            provider: ``cpu`` or ``cuda``. ``cuda`` never falls back to the CPU.
            threads: per run on the CPU; None: all cores.

        Raises:
            BundleError: the bundle cannot be used.
            BoxdropError: CUDA was requested and is not available.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        return cls(opened, provider, threads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the image graph's outputs that `read` needs."""
        return self._family.outputs

    @property
    def nms_iou(self) -> float:
        """Two boxes of one label that overlap by more than this IoU are one object."""
        contract = self.bundle.contract
        if contract is None:
            return NMS_IOU
        return 1.0 if contract.nms_iou is None else contract.nms_iou

    @property
    def width(self) -> int:
        """Numbers in a query.

        Raises:
            LessonError: detectors of this family cannot be taught.
        """
        self._check_teachable()
        inputs = {each.name: each.shape for each in self._image_session.get_inputs()}
        return int(inputs[QUERIES][1])

    def learn(self, number: str, lesson: Lesson) -> None:
        """Let label sets use a lesson: those whose ``lesson`` is its id.

        Args:
            number: the id, see `boxdrop.lessons`.
            lesson: what it says.

        Raises:
            LessonError: it was taught on another detector, or is damaged.
        """
        check_fits(lesson, number, self.bundle.name, self.bundle.digest)
        if lesson.width != self.width:
            raise LessonError(f"lesson {number}: its queries have another length; teach again")
        for label in lesson.labels:
            decode_heads(label, lesson.width)
        self._lessons[number] = lesson

    def model_version(self, label_set: LabelSet) -> str:
        """``bundle-name@detection-digest``: changes exactly when the detector's output may change."""
        return f"{self.bundle.name}@{label_set.digest(self.bundle.digest)[:8]}"

    def thresholds(self, label_set: LabelSet) -> list[float]:
        """The lowest score to show for each label: its own threshold, or the bundle's default.

        Raises:
            LabelSetError: a threshold is below the bundle's floor, under which nothing is kept.
        """
        return thresholds_of(label_set, self.bundle.defaults, self.bundle.name)

    def embed(self, label_set: LabelSet) -> tuple[Words, ...]:
        """A label set's prompts as inputs of the image graph, computed once and cached.

        Returns:
            One entry per pass of the image graph, in the order of `LabelSet.prompts`. Do not modify the
            arrays.

        Raises:
            LabelSetError: a prompt is too long for the detector, or names no class of one with fixed classes.
            LessonError: the label set uses a lesson that the detector did not `learn`.
        """
        labels = tuple((label.prompts, label.classes, label.examples_only) for label in label_set)
        key = (labels, label_set.lesson)
        with self._lock:
            known = self._embedded.get(key)
            if known is None:
                known = self._embedded[key] = self._encode(label_set)
                if len(self._embedded) > _LABEL_SETS_KEPT:
                    self._embedded.popitem(last=False)
            self._embedded.move_to_end(key)
            return known

    def shares(self, label_set: LabelSet) -> tuple[Share, ...]:
        """The whole label set as this detector's share, see `boxdrop.detect.merged`."""
        return (Share(self, label_set),)

    def combine(self, shares: Sequence[Share], found: Sequence[Detections]) -> Detections:
        """What the only share gave."""
        return found[0]

    def preprocess(self, image: NDArray[np.uint8], reduction: int = 1) -> NDArray[np.float32]:
        """Make the model's input from one image.

        Args:
            image: uint8 [height, width, 3], red green blue, upright.
            reduction: the reduction at which it was decoded, at most that of `reduction_for`.

        Returns:
            float32 [3, H, W] for `candidates`. H and W differ between images if the family keeps the aspect
            ratio (``Preprocess.resize`` is ``short-edge``).
        """
        return preprocess.prepare(image, self.bundle.preprocess, reduction)

    def reduction_for(self, width: int, height: int) -> int:
        """The reduction, 1, 2, 4 or 8, at which an upright image may be decoded for `preprocess`."""
        return preprocess.reduction_for(width, height, self.bundle.preprocess)

    def candidates(
        self,
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        sizes: Sequence[tuple[int, int]],
        label_set: LabelSet,
        nms_iou: float | None = None,
        limit: int = MAX_PER_LABEL,
        floor: float | None = None,
    ) -> list[Detections]:
        """Detect everything above the floor, from which `boxdrop.domain.detections.select` selects by
        thresholds.

        Args:
            pixels: float32 [3, H, W] per image, from `preprocess`; or stacked as [B, 3, H, W]. An image's
                result does not depend on the others in its batch.
            sizes: upright (width, height) of each image in pixels.
            label_set: the labels to detect.
            nms_iou, limit: see `boxdrop.domain.detections.suppress`; None: the detector's `nms_iou`.
            floor: lowest score kept; None: the bundle's.

        Raises:
            BoxdropError: the model's output for an image is not finite; names the image.
        """
        if len(pixels) != len(sizes):
            raise ValueError(f"{len(pixels)} images but {len(sizes)} sizes")
        if not len(pixels):
            return []
        return self.read(self.infer(pixels, label_set), sizes, label_set, nms_iou, limit, floor)

    def candidates_of(
        self,
        image: NDArray[np.uint8],
        label_set: LabelSet,
        nms_iou: float | None = None,
        limit: int = MAX_PER_LABEL,
    ) -> Detections:
        """The `candidates` of one image: uint8 [height, width, 3], red green blue, upright."""
        size = (image.shape[1], image.shape[0])
        (found,) = self.candidates([self.preprocess(image)], [size], label_set, nms_iou, limit)
        return found

    def infer(
        self,
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        label_set: LabelSet,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[NDArray[np.float32]]:
        """Run the model: the slow part of `candidates`, which uses all cores or the GPU.

        Args:
            pixels: see `candidates`.
            label_set: what to look for.
            options: lets another thread cancel the run with ``options.terminate = True``.

        Returns:
            the model's output, for `read`; the first axis of each array is the image.
        """
        return self.ask(self._family.outputs, pixels, label_set, options)

    def ask(
        self,
        outputs: Sequence[str],
        pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        label_set: LabelSet,
        options: onnxruntime.RunOptions | None = None,
    ) -> list[NDArray[np.float32]]:
        """Run the image graph for the named outputs; returns them pass by pass."""
        mixed = isinstance(self._family, FixedClasses) and len({each.shape for each in pixels}) > 1
        if len(pixels) > 1 and (mixed or self._one_by_one):
            singles = [self.ask(outputs, [image], label_set, options) for image in pixels]
            return [np.concatenate(each) for each in zip(*singles, strict=True)]
        images = self._family.images(pixels)
        answer: list[NDArray[np.float32]] = []
        for words in self.embed(label_set):
            answer += self._run(outputs, images, words, options)
        return answer

    def features(
        self, pixels: Sequence[NDArray[np.float32]] | NDArray[np.float32], sizes: Sequence[tuple[int, int]]
    ) -> list[Features]:
        """What images look like, whatever the words: what a lesson is fitted to.

        Args:
            pixels, sizes: see `candidates`.

        Raises:
            LessonError: detectors of this family cannot be taught.
            BoxdropError: the model's output for an image is not finite; names the image.
        """
        if self._probes is None:
            self._probes = Words(np.zeros(0, np.int64), {QUERIES: probes(self.width)})
        answer = self._run(self._family.outputs, self._family.images(pixels), self._probes, None)
        self._check_finite(answer, len(sizes))
        _, boxes = self._family.decode(answer, np.array(sizes, np.int64), self._probes)
        return [features_of(logits, found) for logits, found in zip(answer[0], boxes, strict=True)]

    def queries(self, label_set: LabelSet) -> NDArray[np.float32]:
        """The queries of all prompts, whether asked or not: float32 [P, D], of unit length.

        Raises:
            LabelSetError: a prompt is too long for the detector.
            LessonError: detectors of this family cannot be taught.
        """
        self._check_teachable()
        [words] = self._words(label_set, np.arange(len(label_set.prompts)))
        embeds = words.inputs[QUERIES].astype(np.float32)
        unit: NDArray[np.float32] = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
        return unit

    def _run(
        self,
        outputs: Sequence[str],
        images: dict[str, NDArray[Any]],
        words: Words,
        options: onnxruntime.RunOptions | None,
    ) -> list[NDArray[np.float32]]:
        if self._on_device is not None:
            return self._on_device.run(outputs, images, words, options)
        try:
            answer: list[NDArray[np.float32]] = self._image_session.run(
                list(outputs), images | words.inputs, options
            )
        except Exception as error:  # its exception classes have no common base but this
            if options is not None and options.terminate:
                raise
            said = " ".join(str(error).split())[:300]
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in images.items())
            way_out = "free some memory" if "alloc" in said else "wrap or export the model again"
            raise BundleError(
                f"{self.bundle.path}: ONNX Runtime {onnxruntime.__version__} cannot run the graph on "
                f"{shapes}: {said}; {way_out}"
            ) from error
        return answer

    def _check_teachable(self) -> None:
        if not isinstance(self._family, Owl):
            raise LessonError(
                f"detector {self.bundle.name} is of the family {self.bundle.family}; only OWL-ViT and OWLv2 "
                "can be taught, and searched by example: use one of them (`detector:` in labels.yaml), and "
                "remove `lesson`, if labels.yaml has one"
            )

    def read(
        self,
        answer: list[NDArray[np.float32]],
        sizes: Sequence[tuple[int, int]],
        label_set: LabelSet,
        nms_iou: float | None = None,
        limit: int = MAX_PER_LABEL,
        floor: float | None = None,
    ) -> list[Detections]:
        """Decode the model's output: the part of `candidates` that may run in parallel with the model's next
        run.

        Args:
            answer: the result of `infer`.
            sizes, label_set, nms_iou, limit, floor: see `candidates`.

        Raises:
            BoxdropError: the output for an image is not finite; names the image.
        """
        self._check_finite(answer, len(sizes))
        lowest = self.bundle.defaults.floor if floor is None else floor
        owners = np.asarray(label_set.prompt_labels)
        upright = np.array(sizes, np.int64)
        width = len(self._family.outputs)
        found: list[list[Detections]] = [[] for _ in sizes]
        first = 0  # query numbers continue in later passes
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
        overlap = self.nms_iou if nms_iou is None else nms_iou
        return [
            suppress(concatenate(passes), overlap, limit) if passes else Detections.empty()
            for passes in found
        ]

    def _check_finite(self, answer: list[NDArray[np.float32]], images: int) -> None:
        for number in range(images):
            if not all(np.isfinite(output[number]).all() for output in answer):
                raise BoxdropError(
                    f"image {number} of the batch: the output of detector {self.bundle.name} is not finite; "
                    "its graph or this runtime is broken: export the bundle again, or use "
                    "another provider"
                )

    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        label_set: LabelSet,
        rival_iou: float | None = RIVAL_IOU,
        nms_iou: float | None = None,
        limit: int = MAX_PER_LABEL,
    ) -> list[Detections]:
        """Detect in one batch of images.

        Args:
            images: each uint8 [height, width, 3], red green blue, upright.
            label_set: the labels to detect, with their thresholds.
            rival_iou: see `boxdrop.domain.detections.select`.
            nms_iou, limit: see `candidates`.

        Returns:
            Detections of each image, best first.

        Raises:
            BoxdropError: a threshold is below the floor, a prompt is too long, or an output is not finite.
        """
        thresholds = self.thresholds(label_set)
        if not images:
            return []
        pixels = [self.preprocess(image) for image in images]
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        found = self.candidates(pixels, sizes, label_set, nms_iou, limit)
        return [select(candidates, thresholds, rival_iou) for candidates in found]

    def _open_text(self) -> tuple[onnxruntime.InferenceSession, "Tokenizer"]:
        """Load the text graph: a third of the loading time, so it runs in parallel with the image graph's."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.bundle.path / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return open_session(self.bundle, TEXT_GRAPH, self.provider, self._threads), tokenizer

    def _encode(self, label_set: LabelSet) -> tuple[Words, ...]:
        lesson = self._lesson_of(label_set)
        if isinstance(self._family, FixedClasses):
            return self._family.words(label_set)
        taught = set() if lesson is None else taught_labels(lesson, label_set)
        asked = [
            number
            for number, owner in enumerate(label_set.prompt_labels)
            if owner not in taught and not label_set.labels[owner].examples_only
        ]
        passes = self._words(label_set, np.array(asked, np.int64))
        return passes if lesson is None else add_lesson(passes, lesson, label_set, QUERIES)

    def _lesson_of(self, label_set: LabelSet) -> Lesson | None:
        if label_set.lesson is None:
            return None
        if label_set.lesson not in self._lessons:
            self._check_teachable()
            raise LessonError(
                f"the labels use lesson {label_set.lesson}, which was not given to the detector; give it "
                "with --lesson FILE, or remove `lesson` from the labels"
            )
        return self._lessons[label_set.lesson]

    def _words(self, label_set: LabelSet, asked: NDArray[np.int64]) -> tuple[Words, ...]:
        """Encode some of a label set's prompts."""
        bundle, session, tokenizer = self.bundle, self._text_session, self._tokenizer
        if not len(asked):
            return ()
        settings = bundle.text
        assert settings is not None
        assert not isinstance(self._family, FixedClasses)
        prompts = label_set.prompts
        texts = [settings.fill(prompts[number]) for number in asked]
        for number, length in enumerate(self._family.lengths(texts, tokenizer)):
            if length > settings.max_length:
                label = label_set.labels[label_set.prompt_labels[asked[number]]]
                raise LabelSetError(
                    f"label {_shortened(label.name)!r}: {_shortened(texts[number])!r} is {length} tokens "
                    f"long, but detector {bundle.name} reads only {settings.max_length}; use fewer words"
                )
        encoded = self._family.encode(texts, tokenizer, settings, session)
        passes = tuple(replace(words, prompts=asked[words.prompts]) for words in encoded)
        for words in passes:
            for array in words.inputs.values():
                array.setflags(write=False)
                if not np.isfinite(array).all():
                    names = {label_set.labels[label_set.prompt_labels[row]].name for row in words.prompts}
                    raise BoxdropError(
                        f"labels {', '.join(sorted(names))}: their encodings by detector {bundle.name} are "
                        "not finite; export the bundle again"
                    )
        return passes


def _shortened(text: str) -> str:
    """The beginning of a text: a reason has at most 250 characters, and the way out comes last."""
    return text if len(text) <= _TEXT_SHOWN else f"{text[: _TEXT_SHOWN - 1]}…"
