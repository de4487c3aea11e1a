"""Export of tiny OWL-ViT and OWLv2 models, made from configurations, and their parity with transformers."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import onnx
import pytest
import transformers
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

from boxdrop.detect import Bundle, Detector
from boxdrop.detect.bundle import CARD, digest_of
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.domain.errors import BoxdropError, BundleError
from boxdrop.domain.labels import LabelSet
from model_export import exporter, graphs
from model_export.__main__ import main
from model_export.errors import ExportError
from model_export.exporter import Choices, export
from model_export.families import FAMILIES
from model_export.parity import TOLERANCE, compare, label_sets_for
from model_export.pictures import SHAPES, draw
from model_export.source import resolve
from model_export.stand_ins import TINY, make

FAMILY_NAMES = ("owlvit", "owlv2")

# One thread: so small a model gains nothing from more, and threads that wait for each other on a busy
# machine lose much.
choices = partial(Choices, threads=1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("sources")
    return {name: make(folder / f"tiny-{name}", name, TINY[name]) for name in FAMILY_NAMES}


@pytest.fixture(scope="module")
def bundles(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Their bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    return {name: export(str(source), folder / name, choices()) for name, source in sources.items()}


@pytest.fixture
def loaded(sources: dict[str, Path]) -> Callable[[str], Any]:
    """Loads the model of a family again."""
    return lambda name: FAMILIES[name].load(resolve(str(sources[name])))


@pytest.fixture
def quick_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture is enough where the export itself is tested."""
    monkeypatch.setattr(exporter, "compare", partial(compare, pictures=("small",)))


def alter(file: Path, tensor: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change the weights of a graph whose name holds `tensor`."""
    model = onnx.load(str(file))
    found = [weights for weights in model.graph.initializer if tensor in weights.name]
    assert found, [weights.name for weights in model.graph.initializer]
    for weights in found:
        changed = change(numpy_helper.to_array(weights)).astype(np.float32)
        weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(model, str(file))


def signed_anew(bundle: Bundle, folder: Path) -> Bundle:
    """A copy of a bundle in `folder` whose bundle.json fits whatever its portable files are now."""
    portable = [name for name in bundle.files if ".cpu." not in name]
    files = {name: digest_of(folder / name) for name in portable}
    copy = replace(bundle, path=folder, files=files, runtime=None)
    (folder / CARD).write_text(copy.to_json(), encoding="utf-8")
    return copy


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_the_report_in_the_bundle_covers_what_it_must(bundles: dict[str, Bundle], name: str) -> None:
    parity = Bundle.load(bundles[name].path, verify=True).parity
    assert parity["passed"]
    assert parity["unmatched"] == 0
    assert parity["largest"]["score"] <= TOLERANCE.score
    assert parity["largest"]["box"] <= TOLERANCE.box
    assert parity["largest"]["level"] <= TOLERANCE.level
    rows = parity["rows"]
    assert {row["batch"] for row in rows} == {1, 4}
    assert {row["labels"] for row in rows} == {1, 3, 80}
    assert {(row["width"] > row["height"]) - (row["width"] < row["height"]) for row in rows} == {-1, 0, 1}
    assert any(row["prompts"] > row["labels"] for row in rows)
    assert all(row["detections"] >= 20 for row in rows)


@pytest.mark.parametrize("name", FAMILY_NAMES)
@pytest.mark.parametrize("count", [2, 17])
def test_other_numbers_of_labels_agree_too(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any], name: str, count: int
) -> None:
    label_set = LabelSet.from_short_form(", ".join(COCO_NAMES[:count]))
    report = compare(
        loaded(name), Detector.load(bundles[name], threads=1), [label_set], pictures=("tall", "wide")
    )
    assert report.passed, report.table()


@pytest.mark.parametrize("name", FAMILY_NAMES)
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (96, 96),
        (97, 96),
        (640, 480),
        (480, 640),
        (1500, 40),
        (40, 1500),
        (1920, 1081),
        (95, 3),
        (1, 1),
        (2, 5),
    ],
)
def test_inputs_equal_those_of_transformers(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any], name: str, width: int, height: int
) -> None:
    image = np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    processor = loaded(name).processor.image_processor
    theirs = processor(image, return_tensors="np", input_data_format="channels_last").pixel_values[0]
    ours = Detector.load(bundles[name], threads=1).preprocess(image)
    std = np.array(bundles[name].preprocess.std)[:, None, None]
    levels = np.abs((theirs - ours) * std).max() * 255
    # OWL-ViT: the same bits. OWLv2: the same real numbers, summed in another order.
    assert levels == 0 if name == "owlvit" else levels < 1e-3


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_a_batch_equals_single_images_to_the_last_bits(bundles: dict[str, Bundle], name: str) -> None:
    detector = Detector.load(bundles[name], threads=1)
    label_set = LabelSet.from_short_form(", ".join(COCO_NAMES[:12]))
    images = [np.asarray(draw(shape)) for shape in SHAPES]
    pixels = np.stack([detector.preprocess(image) for image in images])
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    together = detector.candidates(pixels, sizes, label_set, floor=1e-3)
    again = detector.candidates(pixels, sizes, label_set, floor=1e-3)
    for number, batched in enumerate(together):
        (single,) = detector.candidates(
            pixels[number : number + 1], sizes[number : number + 1], label_set, floor=1e-3
        )
        assert len(single) > 20
        np.testing.assert_array_equal(single.queries, batched.queries)
        np.testing.assert_array_equal(single.labels, batched.labels)
        np.testing.assert_allclose(single.scores, batched.scores, atol=1e-6)
        np.testing.assert_allclose(single.boxes, batched.boxes, atol=1e-3)  # pixels, of up to 1,000
        for part in ("boxes", "scores", "labels", "prompts", "queries"):
            np.testing.assert_array_equal(getattr(again[number], part), getattr(batched, part))


def test_a_copy_that_was_altered_is_refused(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundles["owlvit"].path, folder)
    alter(folder / "image.onnx", "box_head.dense2.bias", lambda bias: bias + 0.01)
    with pytest.raises(BundleError, match=r"image\.onnx: was altered"):
        Detector.load(folder)


@pytest.mark.parametrize(
    ("graph", "tensor", "change"),
    [
        ("image.onnx", "box_head.dense2.bias", lambda bias: bias + 0.01),
        ("image.onnx", "class_head.logit_shift.bias", lambda bias: bias + 0.001),
        ("image.onnx", "class_head.dense0.bias", lambda bias: bias[::-1]),
        ("text.onnx", "layers.0.self_attn.out_proj.bias", lambda bias: bias + np.arange(len(bias)) % 2),
    ],
)
def test_parity_sees_weights_that_differ(
    bundles: dict[str, Bundle],
    loaded: Callable[[str], Any],
    tmp_path: Path,
    graph: str,
    tensor: str,
    change: Any,
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundles["owlvit"].path, folder)
    alter(folder / graph, tensor, change)
    detector = Detector.load(signed_anew(bundles["owlvit"], folder), threads=1)
    report = compare(loaded("owlvit"), detector, pictures=("small",))
    assert not report.passed
    assert "← outside" in report.table()


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5, 0.5)},
        {"resize": "bilinear"},
    ],
)
def test_parity_sees_another_preprocessing(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any], change: Any
) -> None:
    bundle = bundles["owlv2"]
    altered = replace(bundle, preprocess=replace(bundle.preprocess, **change))
    report = compare(loaded("owlv2"), Detector(altered, threads=1), pictures=("wide",))
    assert report.level > TOLERANCE.level
    assert not report.passed


def test_parity_sees_boxes_scaled_as_another_family_does(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any]
) -> None:
    """OWLv2's boxes are relative to the padded square: as OWL-ViT's they are right on square images only."""
    as_owlvit = Detector(replace(bundles["owlv2"], family="owlvit"), threads=1)
    wrong = compare(loaded("owlv2"), as_owlvit, pictures=("wide",))
    assert not wrong.passed
    assert wrong.level <= TOLERANCE.level
    assert max(row.box for row in wrong.rows) > 10
    assert compare(loaded("owlv2"), as_owlvit, pictures=("square",)).passed


@pytest.mark.usefixtures("quick_parity")
def test_an_export_that_fails_parity_leaves_nothing(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = graphs.write_graph

    def write_wrong(graph: Any, file: Path, opset: int) -> list[Path]:
        written = write(graph, file, opset)
        if file.name == "image.onnx":
            alter(file, "box_head.dense2.bias", lambda bias: bias + 0.01)
        return written

    monkeypatch.setattr(exporter, "write_graph", write_wrong)
    with pytest.raises(ExportError, match=r"(?s)the bundle's results differ from transformers'.*← outside"):
        export(str(sources["owlvit"]), tmp_path / "bundle", choices())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_parity")
def test_the_same_model_gives_the_same_digest(
    bundles: dict[str, Bundle], sources: dict[str, Path], tmp_path: Path
) -> None:
    again = export(str(sources["owlv2"]), tmp_path / "again", choices(name="another"))
    assert again.digest == bundles["owlv2"].digest
    assert again.name == "another"
    for name in again.files:
        assert (again.path / name).read_bytes() == (bundles["owlv2"].path / name).read_bytes()


def test_the_bundle_says_where_it_comes_from(bundles: dict[str, Bundle], sources: dict[str, Path]) -> None:
    bundle = bundles["owlvit"]
    assert bundle.name == "tiny-owlvit"
    assert bundle.family == "owlvit"
    assert bundle.precision == "fp32"
    assert bundle.source.id == "tiny-owlvit"
    assert bundle.source.revision.startswith("sha256:")
    assert bundle.source.transformers == transformers.__version__
    assert bundle.text is not None
    assert bundle.text.template == "a photo of a {}"
    assert (bundle.defaults.threshold, bundle.defaults.floor) == (0.1, 0.02)
    assert (bundle.preprocess.width, bundle.preprocess.resize) == (96, "bicubic")


@pytest.mark.usefixtures("quick_parity")
def test_choices_reach_the_bundle(sources: dict[str, Path], tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# A tiny model")
    source = tmp_path / "licensed"
    shutil.copytree(sources["owlvit"], source)
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Model")
    runner = CliRunner()
    arguments = [
        str(source),
        "--out",
        str(tmp_path / "bundle"),
        "--name",
        "mine",
        "--template",
        "{}",
        "--threads",
        "1",
    ]
    result = runner.invoke(main, [*arguments, "--threshold", "0.01", "--card", str(card)])
    assert result.exit_code == 0, result.output
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.name == "mine"
    assert bundle.text is not None
    assert bundle.text.template == "{}"
    assert (bundle.defaults.threshold, bundle.defaults.floor) == (0.01, 0.01)
    assert bundle.source.licence == "apache-2.0"
    assert (bundle.path / "README.md").read_text() == "# A tiny model"
    assert f"digest {bundle.digest[:8]}" in result.output

    result = runner.invoke(main, arguments)
    assert result.exit_code == 1
    assert "exists; choose another --out, or replace it with --force" in result.output
    result = runner.invoke(main, [*arguments, "--force"])
    assert result.exit_code == 0, result.output
    assert not (bundle.path / "README.md").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "card.md", "licensed"]


def test_a_folder_that_is_not_a_bundle_is_not_replaced(sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ExportError, match=r"exists and is not a bundle, so it is not replaced"):
        export(str(sources["owlvit"]), tmp_path, choices(force=True))
    assert (tmp_path / "holiday.jpg").exists()


def test_a_full_disk_is_reported_and_leaves_nothing(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[Path]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporter, "write_graph", full)
    with pytest.raises(ExportError, match=r"the disk is full"):
        export(str(sources["owlvit"]), tmp_path / "bundle", choices())
    assert list(tmp_path.iterdir()) == []


def broken(folder: Path, change: dict[str, Any], file: str = "config.json") -> Path:
    fields = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(fields | change))
    return folder


def test_an_unknown_kind_of_model_lists_the_known_ones(sources: dict[str, Path], tmp_path: Path) -> None:
    source = broken(shutil.copytree(sources["owlvit"], tmp_path / "bert"), {"model_type": "bert"})
    with pytest.raises(
        ExportError, match=r"bert: its model_type is 'bert'; boxdrop can export owlvit, owlv2"
    ):
        export(str(source), tmp_path / "bundle", choices())


def test_missing_weights_are_an_error_and_not_random_numbers(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    source = shutil.copytree(sources["owlvit"], tmp_path / "headless")
    weights = load_file(source / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "box_head" not in key}
    save_file(kept, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExportError, match=r"headless: \d+ weights are missing \(box_head"):
        export(str(source), tmp_path / "bundle", choices())


def test_truncated_weights_are_reported(sources: dict[str, Path], tmp_path: Path) -> None:
    for length in (0, 7, 1_000, -1):
        source = shutil.copytree(sources["owlvit"], tmp_path / f"torn{length}")
        whole = (source / "model.safetensors").read_bytes()
        (source / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ExportError, match=r"cannot load it: .*; if a file is incomplete"):
            export(str(source), tmp_path / "bundle", choices())


def test_a_missing_tokenizer_is_named_before_the_work(sources: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(sources["owlvit"], tmp_path / "wordless")
    for file in source.glob("*token*"):
        file.unlink()
    for name in ("vocab.json", "merges.txt"):
        (source / name).unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"wordless: has no tokenizer"):
        export(str(source), tmp_path / "bundle", choices())


@pytest.mark.parametrize("name", ["owlvit-tinny", "checkpoints/owlvit-tinny"])
def test_a_mistyped_folder_is_reported_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ExportError, match=r"does not exist; give a folder"):
        export(name, tmp_path / "bundle", choices())


def test_a_processor_that_does_not_fit_is_named(sources: dict[str, Path], tmp_path: Path) -> None:
    size = {"size": {"height": 768, "width": 768}}
    source = broken(shutil.copytree(sources["owlvit"], tmp_path / "odd"), size, "preprocessor_config.json")
    with pytest.raises(ExportError, match="makes 768×768 pixels, but its model takes 96×96"):
        export(str(source), tmp_path / "bundle", choices())
    source = broken(
        shutil.copytree(sources["owlv2"], tmp_path / "unpadded"),
        {"do_pad": False},
        "preprocessor_config.json",
    )
    with pytest.raises(ExportError, match=r"unpadded: its preprocessor_config\.json has steps"):
        export(str(source), tmp_path / "bundle", choices())


@pytest.mark.usefixtures("quick_parity")
def test_a_folder_without_a_processor_gets_the_familys_own(
    sources: dict[str, Path], bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    source = shutil.copytree(sources["owlv2"], tmp_path / "tiny-owlv2")
    (source / "preprocessor_config.json").unlink()
    assert export(str(source), tmp_path / "bundle", choices()).digest == bundles["owlv2"].digest


def test_prompts_that_the_tokenizer_cannot_shorten_are_left_out_of_parity(
    bundles: dict[str, Bundle], loaded: Callable[[str], Any]
) -> None:
    before = bundles["owlvit"].text
    assert before is not None
    text = replace(before, max_length=7, template="{}")
    sets = label_sets_for(text, loaded("owlvit").tokenizer())
    assert [len(label_set) for label_set in sets] == [1, 3, 80]
    assert "refrigerator" in COCO_NAMES
    detector = Detector(replace(bundles["owlvit"], text=replace(text, max_length=16)))
    for label_set in sets:
        detector.embed(label_set)


def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "nowhere"), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "nowhere: does not exist" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_hub_id_that_cannot_be_reached_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no such folder, and the hub gave no such model"):
        export("google/owlv2-of-no-such-size", tmp_path / "bundle", choices())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (choices(threshold=0.1, floor=0.5), r"need 0 < floor <= threshold <= 1"),
        (choices(template="a photo"), r"must hold \{\} once"),
        (choices(name="a/b"), r"--name 'a/b'"),
        (choices(revision="main"), r"a folder has no revisions"),
        (choices(card=Path("missing.md")), r"--card missing\.md: there is no such file"),
    ],
)
def test_a_wrong_choice_is_refused_before_the_work(
    sources: dict[str, Path], tmp_path: Path, chosen: Choices, message: str
) -> None:
    with pytest.raises(BoxdropError, match=message):
        export(str(sources["owlvit"]), tmp_path / "bundle", chosen)
    assert list(tmp_path.iterdir()) == []
