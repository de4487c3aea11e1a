"""Bundles in 16 and 8 bits, and graphs that were rewritten for a quick start."""

import os
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from boxdrop.detect import Bundle, Detector
from boxdrop.detectors.coco import COCO_NAMES
from boxdrop.domain.labels import LabelSet
from model_export import drift, exporter
from model_export.__main__ import PRECISIONS as OFFERED
from model_export.__main__ import main
from model_export.drift import CHOOSING_LIMITS, LIMITS, Drift
from model_export.errors import ExportError
from model_export.exporter import Choices, export
from model_export.families import FAMILIES
from model_export.parity import compare
from model_export.pictures import draw
from model_export.precision import PRECISIONS, to_int8
from model_export.source import resolve
from model_export.stand_ins import TINY, make

choices = partial(Choices, threads=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("source") / "tiny-owlvit", "owlvit", TINY["owlvit"])


@pytest.fixture(scope="module")
def bundles(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """The same model in every precision."""
    folder = tmp_path_factory.mktemp("bundles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "compare", partial(compare, pictures=("small",)))
        return {name: export(str(source), folder / name, choices(precision=name)) for name in PRECISIONS}


def operations(file: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(file)).graph.node]


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_reduced_precision_reports_its_drift(bundles: dict[str, Bundle], name: str) -> None:
    bundle = Bundle.load(bundles[name].path, verify=True)
    assert bundle.precision == name
    assert bundle.parity["passed"], "the comparison in 32 bits stays in the bundle"
    found = bundle.parity["drift"]
    assert found["boxes"] > 300
    assert found["kept"] >= LIMITS[name].kept * found["boxes"]
    assert 0 < found["score"]["mean"] <= LIMITS[name].score
    assert found["score"]["mean"] <= found["score"]["p95"] <= found["score"]["max"]
    assert "drift" not in bundles["fp32"].parity
    assert len({each.digest for each in bundles.values()}) == len(PRECISIONS)


def test_int8_weighs_what_takes_the_time_and_leaves_the_heads(
    bundles: dict[str, Bundle], source: Path
) -> None:
    graph = onnx.load(str(bundles["int8"].path / "image.onnx")).graph
    quantised = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    layers = TINY["owlvit"]["vision_config"]["num_hidden_layers"]
    # Query, key, value, output and the two of the feed-forward part; zero points are 1-D.
    assert sum(len(tensor.dims) == 2 for tensor in quantised) == 6 * layers
    kept = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    model = FAMILIES["owlvit"].load(resolve(str(source))).model
    for weights in (model.class_head.dense0.weight, model.box_head.dense1.weight):
        expected = weights.detach().numpy()
        assert any(array.shape == expected.T.shape and np.array_equal(array, expected.T) for array in kept)
    assert not any("Quant" in each for each in operations(bundles["int8"].path / "text.onnx"))


def test_fp16_keeps_what_goes_in_and_comes_out_in_32_bits(bundles: dict[str, Bundle]) -> None:
    graph = onnx.load(str(bundles["fp16"].path / "image.onnx")).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    sizes = {name: (bundles[name].path / "image.onnx").stat().st_size for name in ("fp32", "fp16")}
    assert sizes["fp16"] < 0.65 * sizes["fp32"]
    assert not [name for name in bundles["fp16"].files if ".cpu." in name]


def test_a_model_that_drifts_too_far_makes_no_bundle(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "compare", partial(compare, pictures=("small",)))
    monkeypatch.setitem(LIMITS, "int8", replace(LIMITS["int8"], score=1e-9))
    with pytest.raises(ExportError, match=r"in int8 its results differ too much.*use --precision fp32"):
        export(str(source), tmp_path / "bundle", choices(precision="int8"))
    assert list(tmp_path.iterdir()) == []


def test_boxes_without_a_counterpart_are_lost() -> None:
    nothing = np.zeros(0, np.float32)
    gaps = np.full(90, 0.01, np.float32)
    assert Drift(100, 90, gaps, gaps + 0.9).within(LIMITS["int8"])
    assert not Drift(100, 89, gaps[:89], gaps[:89] + 0.9).within(LIMITS["int8"])
    assert not Drift(100, 0, nothing, nothing).within(LIMITS["int8"])
    assert not Drift(100, 100, np.full(100, -0.03, np.float32), gaps).within(LIMITS["int8"])


def test_drift_sees_a_detector_that_differs(bundles: dict[str, Bundle]) -> None:
    exact = Detector.load(bundles["fp32"], threads=1)
    label_sets = [LabelSet.from_short_form(", ".join(COCO_NAMES[:3]))]
    same = drift.measure(exact, Detector.load(bundles["fp32"], threads=1), label_sets, ("small",))
    assert same.kept == same.boxes > 20
    assert not same.scores.any()
    other = replace(bundles["fp32"], preprocess=replace(bundles["fp32"].preprocess, mean=(0.9, 0.9, 0.9)))
    changed = drift.measure(exact, Detector(other, threads=1), label_sets, ("small",))
    assert np.abs(changed.scores).mean() > 1e-3


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_the_rewritten_graph_is_opened_by_the_runtime_that_wrote_it(
    bundles: dict[str, Bundle], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles[name]
    assert bundle.runtime == onnxruntime.__version__
    opened: list[tuple[str, bool]] = []
    session = onnxruntime.InferenceSession

    def watched(path: str, options: onnxruntime.SessionOptions, providers: list[str]) -> object:
        level = options.graph_optimization_level
        opened.append((Path(path).name, level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL))
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    image, label_set = np.asarray(draw("small")), LabelSet.from_short_form("cat, dog")
    answers = []
    for runtime in (bundle.runtime, "1.0.0"):
        detector = Detector.load(replace(bundle, runtime=runtime), threads=1)
        size = [(image.shape[1], image.shape[0])]
        answers += detector.candidates([detector.preprocess(image)], size, label_set, floor=1e-6)
    assert sorted(opened[:2]) == [("image.cpu.onnx", True), ("text.cpu.onnx", True)]
    assert sorted(opened[2:]) == [("image.onnx", False), ("text.onnx", False)]
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, atol=1e-5 if name == "fp32" else 1e-3)


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_the_processor_s_graph_has_each_attention_layer_as_one_operation(
    bundles: dict[str, Bundle], name: str
) -> None:
    found = operations(bundles[name].path / "image.cpu.onnx")
    assert found.count("MultiHeadAttention") == TINY["owlvit"]["vision_config"]["num_hidden_layers"]
    assert "Softmax" not in found
    masked = operations(bundles[name].path / "text.cpu.onnx")
    assert "MultiHeadAttention" not in masked, "words do not see those after them"
    assert "MultiHeadAttention" not in operations(bundles[name].path / "image.onnx"), "other versions run it"


def test_large_weights_are_shared_by_the_two_graphs(
    bundles: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_export import graphs, optimise

    monkeypatch.setattr(graphs, "_EXTERNAL_FROM", 1)
    model = onnx.load(str(bundles["fp32"].path / "image.onnx"))
    file, data = graphs.save_graph(model, tmp_path / "image.onnx")
    rewritten = optimise.optimise(file)
    assert rewritten[0].name == "image.cpu.onnx"
    own = sum(path.stat().st_size for path in rewritten)
    assert own < 0.5 * data.stat().st_size
    session = onnxruntime.InferenceSession(str(rewritten[0]))
    assert [value.name for value in session.get_outputs()] == ["logits", "boxes"]


def test_grounding_dino_in_int8_keeps_where_it_looks_in_32_bits(tmp_path: Path) -> None:
    """Sampling points and the decoder stay exact; what encodes the image does not."""
    from model_export.graphs import plain_attention, write_graph

    folder = make(tmp_path / "tiny", "grounding-dino", TINY["grounding-dino"])
    loaded = FAMILIES["grounding-dino"].load(resolve(str(folder)))
    with plain_attention(loaded.model):
        graph = loaded.image_graph()
        write_graph(graph, tmp_path / "image.onnx")
    to_int8(tmp_path / "image.onnx", [weights.detach().numpy() for weights in graph.heads])
    stored = onnx.load(str(tmp_path / "image.onnx")).graph.initializer
    names = {tensor.name for tensor in stored if tensor.data_type == onnx.TensorProto.INT8}
    assert any("encoder.layers.0.deformable_layer.fc1" in name for name in names)
    exact = ("sampling_offsets", "bbox_embed", "text_enhancer", "enc_output")
    assert not any(part in name for part in exact for name in names)
    assert not any("decoder.layers" in name and "value_proj" not in name for name in names)


def test_the_command_line_offers_what_there_is() -> None:
    assert OFFERED == PRECISIONS
    result = CliRunner().invoke(main, ["somewhere", "--out", "there", "--precision", "int4"])
    assert result.exit_code == 2
    assert "'int4' is not one of 'fp32', 'fp16', 'int8'" in result.output


def test_a_precision_that_loses_boxes_is_warned_of_even_where_it_is_allowed() -> None:
    gone = np.zeros(569, np.float32)
    lossy = Drift(921, 569, gone, gone + 1)
    assert lossy.within(CHOOSING_LIMITS)
    assert "352 of 921 boxes have no counterpart in 32 bits (38%)" in (lossy.warning() or "")
    assert Drift(921, 900, gone, gone + 1).warning() is None
