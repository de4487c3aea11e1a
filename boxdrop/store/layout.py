"""The keys of the data bucket. Every key is made and read here, and nowhere else.

    labelsets/SHA256.yaml                          a label set, kept for ever
    runs/RUN/manifest.jsonl                        the images of a run
    runs/RUN/shards/INDEX.json                     what the job of one shard did
    runs/RUN/requests/ATTEMPT-INDEX.json           what SageMaker is asked to do, one object per shard
    runs/RUN/problem.txt                           why a job of the run ended early, for people
    runs/RUN/summary.json                          the whole run; written last
    predictions/PROJECT/RUN/part-FIRST-LAST.jsonl  what was found in lines FIRST to LAST of the manifest
    display/PROJECT/IMAGE-VERSION16.jpg            what people see of an image that browsers show differently
    boxes/PROJECT/MODEL_VERSION/IMAGE-VERSION16.json  boxes that were dropped with an image
    annotations/PROJECT/IMAGE.json                 what people say about an image now
    reviews/PROJECT/task-N.json, annotation-N.json which task and image a number of Label Studio was about
    lessons/LESSON.json                            what verified images taught a detector, kept for ever
    reviews/PROJECT/outlook.json                   how many images probably need a change
    reviews/PROJECT/teachings.json                 what came of teaching the project
    reviews/PROJECT/acceptance.json                which images were accepted, and what the audit says
    tracked/STORE/RUN.json                         that a ZenML store has a run
    datasets/PROJECT/NAME/dataset.json             a frozen data set; written last
    datasets/PROJECT/NAME/part-SHA256.jsonl.gz     its items
    places/PROJECT/GROUPING16/NUMBER.gz            places of images among splits, see `datasets.lookalikes`
    trainings/PROJECT/NAME/training.json           how far a training is
    trainings/PROJECT/NAME/checkpoint.tar          its last checkpoint, if it is to be copied here
    orders/PROJECT/ORDER/order.json                long work that is to be done in the AWS account
    orders/PROJECT/ORDER/meter.json                how much machine time it has used, and how it ended
    bundles/NAME/DIGEST16/FILE                     a detector
    bundles/NAME/latest.json, bundles/default.json which detector a name means, and which one is the default
    bundles/canary.json                            which detector runs on a share of new images
    reviews/PROJECT/canary.json                    the same, for one project

A project's name is a folder of the image bucket and may hold slashes. `project_folder` turns it into one part
of a key, PROJECT above, so that no project's keys begin with another's. Earlier, a nested project's name was
written as it is; `earlier_folder` is that form, which is still read. Only this module spells either form:
docs/decisions/120-one-folder-per-project.md.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from boxdrop.domain.identity import RUN_ID

LABEL_SETS: Final = "labelsets/"
RUNS: Final = "runs/"
PREDICTIONS: Final = "predictions/"
DISPLAY: Final = "display/"
BOXES: Final = "boxes/"
ANNOTATIONS: Final = "annotations/"
REVIEWS: Final = "reviews/"
TRACKED: Final = "tracked/"
BUNDLES: Final = "bundles/"
DATASETS: Final = "datasets/"
LESSONS: Final = "lessons/"
PLACES: Final = "places/"
TRAININGS: Final = "trainings/"
ORDERS: Final = "orders/"

SAGEMAKER: Final = "sagemaker/"
"""SageMaker writes its responses and failures here. A job writes its results itself: that one of them is here
says that its request has ended."""
ZENML: Final = "zenml/"
"""ZenML stores the artifacts of tracked runs here."""

PART_IMAGES: Final = 128
"""Images of a part at most."""

DEFAULT_BUNDLE_KEY: Final = f"{BUNDLES}default.json"
_VERSION_DIGITS: Final = 16
_FOLDER_BYTES: Final = 940  # of the 1,024 that a key may have; the longest rest is that of a part
BUNDLE_DIGITS: Final = 16
"""Digits of a bundle's digest in its keys."""

_PART_KEY = re.compile(rf"{PREDICTIONS}(.+)/({RUN_ID})/part-(\d{{8}})-(\d{{8}})\.jsonl")
_ESCAPED = re.compile("!-|!_")
_SUMMARY_KEY = re.compile(rf"{RUNS}({RUN_ID})/summary\.json")
SUMMARY_WILDCARD: Final = f"{RUNS}*/summary.json"
"""The pattern of the summaries' keys, for EventBridge."""


def project_folder(project: str) -> str:
    """A project's name as one part of a key: ``/`` becomes ``!-``, and ``!`` becomes ``!_``.

    Different projects have different folders, and none contains a slash. So no project's keys begin with
    another's. A name without ``/`` and ``!`` stays as it is.

    A name of so many levels that its keys would be longer than S3 allows keeps its earlier form.
    """
    folder = project.replace("!", "!_").replace("/", "!-")
    return folder if len(folder.encode("utf-8", "surrogateescape")) <= _FOLDER_BYTES else project


def project_of_folder(folder: str) -> str | None:
    """The inverse of `project_folder`; None if it makes no such folder."""
    project = _ESCAPED.sub(lambda found: "/" if found[0] == "!-" else "!", folder)
    return project if project_folder(project) == folder else None


def earlier_folder(project: str) -> str | None:
    """The folder of the project's keys in the earlier form, if it differs from `project_folder`; else None.

    A name that is another project's folder now (``a!-b`` is that of ``a/b``) has no earlier form: what is
    there is the other project's.
    """
    if project == project_folder(project) or project_of_folder(project) is not None:
        return None
    return project


def earlier_key(key: str, project: str) -> str | None:
    """The earlier form of a project's key; None if it is the same."""
    folder = earlier_folder(project)
    if folder is None:
        return None
    top, _, rest = key.partition("/")
    return f"{top}/{folder}/{rest.partition('/')[2]}"


def prefixes_of(prefix: str, project: str) -> tuple[str, ...]:
    """A project's prefix, and its earlier form if that differs.

    Below the earlier one, there may be keys of projects in folders of this project.
    """
    earlier = earlier_key(prefix, project)
    return (prefix,) if earlier is None else (prefix, earlier)


def label_set_key(digest: str) -> str:
    """Key of a label set; `digest` is the sha256 of its text, 64 hexadecimal digits."""
    return f"{LABEL_SETS}{digest}.yaml"


def lesson_key(lesson_id: str) -> str:
    """Key of a lesson, see `boxdrop.domain.lesson`."""
    return f"{LESSONS}{lesson_id}.json"


def run_prefix(run_id: str) -> str:
    """What the keys of everything about a run begin with, but its parts."""
    return f"{RUNS}{run_id}/"


def manifest_key(run_id: str) -> str:
    """Key of a run's manifest."""
    return f"{run_prefix(run_id)}manifest.jsonl"


def shards_prefix(run_id: str) -> str:
    """What the keys of a run's shard reports begin with."""
    return f"{run_prefix(run_id)}shards/"


def shard_key(run_id: str, index: int) -> str:
    """Key of a shard's report."""
    return f"{shards_prefix(run_id)}{index:05}.json"


def shard_of_key(key: str) -> int | None:
    """The index of the shard whose report has this key; None for other keys."""
    name = key.rpartition("/")[2].removesuffix(".json")
    return int(name) if name.isdecimal() else None


def request_key(run_id: str, attempt: int, shard: int) -> str:
    """Key of what SageMaker is asked to do for one shard."""
    return f"{run_prefix(run_id)}requests/{attempt}-{shard:05}.json"


def problem_key(run_id: str) -> str:
    """Key of the sentence why a job of a run ended early."""
    return f"{run_prefix(run_id)}problem.txt"


def summary_key(run_id: str) -> str:
    """Key of a run's summary."""
    return f"{run_prefix(run_id)}summary.json"


def run_of_summary_key(key: str) -> str | None:
    """The run that a summary's key names; None for other keys."""
    found = _SUMMARY_KEY.fullmatch(key)
    return found[1] if found else None


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """Which lines of which manifest a part is about: `first` to before `last`, from 0.

    Attributes:
        is_earlier: whether its key has the earlier form; it is the same part.
    """

    project: str
    run_id: str
    first: int
    last: int
    is_earlier: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """The part's key."""
        key = f"{parts_prefix(self.project, self.run_id)}part-{self.first:08}-{self.last:08}.jsonl"
        return (earlier_key(key, self.project) or key) if self.is_earlier else key

    @classmethod
    def from_key(cls, key: str) -> "PartName | None":
        """Read a key of either form; None if it is not a part's."""
        found = _PART_KEY.fullmatch(key)
        if found is None:
            return None
        project = project_of_folder(found[1])
        name = found[2], int(found[3]), int(found[4])
        return cls(found[1], *name, is_earlier=True) if project is None else cls(project, *name)


def predictions_prefix(project: str) -> str:
    """What the keys of all parts of a project begin with; the next level of folders is its runs."""
    return f"{PREDICTIONS}{project_folder(project)}/"


def parts_prefix(project: str, run_id: str) -> str:
    """What the keys of the parts of one run begin with."""
    return f"{predictions_prefix(project)}{run_id}/"


def display_prefix(project: str) -> str:
    """What the keys of a project's display copies begin with."""
    return f"{DISPLAY}{project_folder(project)}/"


def display_key(project: str, image_id: str, version: str) -> str:
    """Key of the display copy of one version of an image: an older version's stays what it was."""
    return f"{display_prefix(project)}{image_id}-{_version_digits(version)}.jpg"


def _version_digits(version: str) -> str:
    digest = hashlib.sha256(version.encode("utf-8", "surrogateescape")).hexdigest()
    return digest[:_VERSION_DIGITS]


def boxes_prefix(project: str) -> str:
    """What the keys of all boxes that were dropped into a project begin with."""
    return f"{BOXES}{project_folder(project)}/"


def boxes_key(project: str, model_version: str, image_id: str, version: str) -> str:
    """Key of the boxes that were dropped with one version of an image; `model_version` names their source."""
    return f"{boxes_prefix(project)}{model_version}/{image_id}-{_version_digits(version)}.json"


def annotations_prefix(project: str) -> str:
    """What the keys of a project's documents begin with."""
    return f"{ANNOTATIONS}{project_folder(project)}/"


def reviews_prefix(project: str) -> str:
    """What the keys of a project's notes about tasks and annotations begin with."""
    return f"{REVIEWS}{project_folder(project)}/"


def annotation_key(project: str, image_id: str) -> str:
    """Key of the document about an image."""
    return f"{annotations_prefix(project)}{image_id}.json"


def annotation_pointer_key(project: str, annotation_id: int) -> str:
    """Key of the note which task an annotation was on: Label Studio does not report it on deletion.

    It is not below ``annotations/``, whose listing is the documents and nothing else.
    """
    return f"{reviews_prefix(project)}annotation-{annotation_id}.json"


def task_pointer_key(project: str, task_id: int) -> str:
    """Key of the note which image a task showed: after the task's deletion nothing else records it."""
    return f"{reviews_prefix(project)}task-{task_id}.json"


def outlook_key(project: str) -> str:
    """Key of how many images of a project probably need a change."""
    return f"{reviews_prefix(project)}outlook.json"


def teachings_key(project: str) -> str:
    """Key of what came of teaching a project."""
    return f"{reviews_prefix(project)}teachings.json"


def acceptance_key(project: str) -> str:
    """Key of which images of a project were accepted, and what the audit says."""
    return f"{reviews_prefix(project)}acceptance.json"


def canary_key(project: str | None) -> str:
    """Key of the canary of a project, or (None) of all projects that use the default detector."""
    return f"{BUNDLES}canary.json" if project is None else f"{reviews_prefix(project)}canary.json"


def marks_prefix(store_id: str) -> str:
    """What the keys of the marks of one ZenML store begin with."""
    return f"{TRACKED}{store_id}/"


def mark_key(store_id: str, run_id: str) -> str:
    """Key of the mark that a ZenML store has a run."""
    return f"{marks_prefix(store_id)}{run_id}.json"


def run_of_mark_key(key: str) -> str:
    """The run that a mark is about."""
    return key.rpartition("/")[2].removesuffix(".json")


def bundle_versions_prefix(name: str) -> str:
    """What the keys of all bundles of a name begin with; the next level of folders is their digests."""
    return f"{BUNDLES}{name}/"


def bundle_prefix(name: str, digest: str) -> str:
    """What the keys of a bundle's files begin with; of `digest`, the first 16 digits count."""
    return f"{bundle_versions_prefix(name)}{digest[:BUNDLE_DIGITS]}/"


def latest_bundle_key(name: str) -> str:
    """Key of the object that records which bundle a name means."""
    return f"{bundle_versions_prefix(name)}latest.json"


def places_prefix(project: str, pattern: str | None) -> str:
    """What the keys of the places of a project's images among splits begin with.

    Args:
        pattern: what groups images; None: each image is a group.
    """
    grouping = hashlib.sha256(("" if pattern is None else f"={pattern}").encode()).hexdigest()[:16]
    return f"{PLACES}{project_folder(project)}/{grouping}/"


def datasets_prefix(project: str) -> str:
    """What the keys of a project's frozen data sets begin with; the next level of folders is their names."""
    return f"{DATASETS}{project_folder(project)}/"


def dataset_key(project: str, name: str) -> str:
    """Key of the object that makes a frozen data set exist."""
    return f"{datasets_prefix(project)}{name}/dataset.json"


def dataset_part_key(project: str, name: str, digest: str) -> str:
    """Key of some items of a frozen data set; `digest` is the sha256 of the object."""
    return f"{datasets_prefix(project)}{name}/part-{digest}.jsonl.gz"


def trainings_prefix(project: str) -> str:
    """What the keys of a project's trainings begin with; the next level of folders is their names."""
    return f"{TRAININGS}{project_folder(project)}/"


def training_key(project: str, name: str) -> str:
    """Key of the object that says how far a training is."""
    return f"{trainings_prefix(project)}{name}/training.json"


def checkpoint_key(project: str, name: str) -> str:
    """Key of a training's last checkpoint."""
    return f"{trainings_prefix(project)}{name}/checkpoint.tar"


NO_PROJECT: Final = "!none"
"""In place of a project's folder, for orders of no project; `project_folder` never makes it."""


def orders_prefix(project: str) -> str:
    """What the keys of a project's orders begin with; the next level of folders is their ids.

    Args:
        project: empty for orders of no project.
    """
    return f"{ORDERS}{project_folder(project) if project else NO_PROJECT}/"


def order_key(project: str, order_id: str) -> str:
    """Key of what an order asks for."""
    return f"{orders_prefix(project)}{order_id}/order.json"


def meter_key(project: str, order_id: str) -> str:
    """Key of how much machine time an order has used."""
    return f"{orders_prefix(project)}{order_id}/meter.json"
