import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boxdrop.detect import Bundle, Detector
from boxdrop.detect import bundle as bundle_module
from boxdrop.detect.bundle import CARD, Defaults, FileDigest, Preprocess, Text
from boxdrop.domain.errors import BundleError


def edit(folder: Path, change: dict[str, Any]) -> Path:
    fields = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(fields | change))
    return folder


def test_what_is_written_is_read_back(toy: Callable[..., Path]) -> None:
    bundle = Bundle.load(toy())
    (bundle.path / CARD).write_text(bundle.to_json())
    again = Bundle.load(bundle.path)
    assert again == bundle
    assert again.digest == bundle.digest
    assert again.parity == {"passed": True}


def test_a_folder_without_a_bundle_explains_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no such folder"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"make one with: python -m model_export"):
        Bundle.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"a transformers model, not a bundle"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match=r"a bundle is a folder"):
        Bundle.load(tmp_path / "config.json")


def test_an_altered_file_is_refused(toy: Callable[..., Path]) -> None:
    folder = toy()
    graph = folder / "image.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"image\.onnx: was altered"):
        Detector.load(folder)


def test_an_incomplete_file_is_refused(toy: Callable[..., Path]) -> None:
    folder = toy()
    graph = folder / "text.onnx"
    graph.write_bytes(graph.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"text\.onnx: has \d+ bytes, but bundle\.json says \d+"):
        Bundle.load(folder)
    graph.unlink()
    with pytest.raises(BundleError, match=r"text\.onnx: this file of the bundle is missing"):
        Bundle.load(folder)


def test_large_files_are_hashed_when_asked(toy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_HASHED_ON_LOAD", 0)
    folder = toy()
    graph = folder / "image.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    bundle = Bundle.load(folder)
    with pytest.raises(BundleError, match=r"was altered"):
        bundle.verify()
    with pytest.raises(BundleError, match=r"was altered"):
        Bundle.load(folder, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "boxdrop-bundle/9"}, r"its format is 'boxdrop-bundle/9'.*update boxdrop"),
        ({"name": "../evil"}, r"`name` is"),
        ({"name": ""}, r"`name` must be text"),
        ({"family": None}, r"`family` must be text"),
        ({"source": {"id": "x"}}, r"`source\.revision` must be text"),
        ({"preprocess": []}, r"`preprocess` must be an object"),
        (
            {"text": {"max_length": 0, "pad_id": 0, "template": "{}"}},
            r"`text\.max_length` must be a whole number",
        ),
        ({"text": {"max_length": 4, "pad_id": 0, "template": "photo"}}, r"must hold \{\} once"),
        ({"defaults": {"threshold": 0.1, "floor": 0.2}}, r"0 < floor \(0\.2\) <= threshold \(0\.1\)"),
        ({"defaults": {"threshold": float("nan"), "floor": 0.2}}, r"`defaults\.threshold` must be a number"),
        ({"files": {"../../etc/passwd": {"sha256": "0", "bytes": 1}}}, r"not a plain file name"),
        ({"files": {}}, r"does not name image\.onnx, text\.onnx, tokenizer\.json"),
    ],
)
def test_a_wrong_field_is_named(toy: Callable[..., Path], change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(edit(toy(), change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize": "crop"}, r"`preprocess\.resize` is 'crop'.*update boxdrop"),
        ({"resize": "pad-square", "width": 9}, r"pads to a square but its size is 9×8"),
        ({"height": True}, r"`preprocess\.height` must be a whole number"),
        ({"std": [1.0, 0.0, 1.0]}, r"`preprocess\.std` must be above 0"),
        ({"mean": [0.5, 0.5]}, r"`preprocess\.mean` must be three numbers"),
    ],
)
def test_a_wrong_preprocessing_is_named(toy: Callable[..., Path], change: Any, message: str) -> None:
    folder = toy()
    fields = json.loads((folder / CARD).read_text())["preprocess"]
    with pytest.raises(BundleError, match=message):
        Bundle.load(edit(folder, {"preprocess": fields | change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_card_that_is_not_an_object_is_refused(toy: Callable[..., Path], text: str) -> None:
    folder = toy()
    (folder / CARD).write_text(text)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        Bundle.load(folder)


def test_an_unknown_family_is_refused(toy: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match=r"'yolo', but this boxdrop knows owlvit, owlv2"):
        Detector.load(edit(toy(), {"family": "yolo"}))


def test_a_file_that_is_not_a_graph_is_refused(toy: Callable[..., Path]) -> None:
    folder = toy()
    (folder / "image.onnx").write_bytes(b"no graph")
    bundle = Bundle.load(toy())
    entry = bundle_module.digest_of(folder / "image.onnx")
    altered = replace(bundle, path=folder, files=dict(bundle.files) | {"image.onnx": entry})
    (folder / CARD).write_text(altered.to_json())
    with pytest.raises(BundleError, match=r"image\.onnx: ONNX Runtime .* cannot load it"):
        Detector.load(folder)


def test_the_digest_is_of_what_makes_the_answers(toy: Callable[..., Path]) -> None:
    bundle = Bundle.load(toy())
    for same in (
        replace(bundle, name="other"),
        replace(bundle, parity={"passed": False}),
        replace(bundle, source=replace(bundle.source, revision="2")),
        replace(bundle, defaults=Defaults(threshold=0.9, floor=0.05)),
        replace(bundle, path=Path("elsewhere")),
    ):
        assert same.digest == bundle.digest
    for different in (
        replace(bundle, family="owlv2"),
        replace(bundle, preprocess=replace(bundle.preprocess, mean=(0.1, 0.0, 0.0))),
        replace(bundle, text=Text(4, 0, "a {}")),
        replace(bundle, defaults=Defaults(threshold=0.5, floor=0.01)),
        replace(bundle, files=dict(bundle.files) | {"image.onnx": FileDigest("0", 1)}),
    ):
        assert different.digest != bundle.digest


def test_a_model_card_may_lie_beside_and_change(toy: Callable[..., Path]) -> None:
    folder = toy()
    before = Bundle.load(folder).digest
    (folder / "README.md").write_text("# A toy")
    assert Bundle.load(folder).digest == before


def test_preprocess_is_plain_data(toy: Callable[..., Path]) -> None:
    assert Bundle.load(toy()).preprocess == Preprocess(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("template", "prompt", "text"),
    [
        ("{}", "pineapple", "pineapple"),
        ("a photo of a {}", "pineapple", "a photo of a pineapple"),
        ("a photo of a {}", "bunch of bananas", "a photo of a bunch of bananas"),
        ("a photo of a {}", "a photo of a red apple", "a photo of a red apple"),
        ("a photo of a {}", "A photo of an apple", "A photo of an apple"),
        ("{} in a basket", "{} apple", "{} apple in a basket"),
    ],
)
def test_a_prompt_is_put_into_the_template_once(template: str, prompt: str, text: str) -> None:
    assert Text(16, 0, template).fill(prompt) == text
