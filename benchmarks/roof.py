"""How close the model runs to the CPU's limit: the upper bound of every ratio in `benchmarks.speed`.

    python -m benchmarks.roof [--family owlvit] [--precision fp32] [--labels 3] [--rounds 7]

ONNX Runtime's profile shows each operation's shapes, from which the multiplications per image follow. The
CPU's best speed is measured with a single product of the model's own size, [positions, width] by [width, 4
width], in 32 and in 8 bits. The roof is the bundle's time if all its products ran at that speed, and
everything else took no time. transformers' pipeline runs the image encoder once per label, so with L labels
the largest possible speed-up is L times its pass divided by the roof.
"""

import json
import math
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.full_size import TITLES, Stopwatch, bundle, names, pictures
from boxdrop.detect import Detector
from boxdrop.detect.bundle import IMAGE_GRAPH, cpu_graph

_EIGHT_BITS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger")


@click.command()
@click.option("--family", type=click.Choice(list(TITLES)), default="owlvit", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "int8"]), default="fp32", show_default=True)
@click.option("--labels", default=3, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option(
    "--bundles", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True
)
def main(family: str, precision: str, labels: int, rounds: int, bundles: Path) -> None:
    """Print one table."""
    detector = Detector.load(bundle(bundles, family, precision))
    ready = detector.preprocess(pictures(family, 1)[0])
    feed = {**detector._family.images(ready[None]), **detector.embed(names(labels))[0].inputs}
    seconds, work = profile(detector, feed, rounds)
    best = {bits: product_speed(bits) for bits in ("fp32", "int8")}
    exact = sum(amount for operation, amount in work.items() if operation not in _EIGHT_BITS)
    small = sum(amount for operation, amount in work.items() if operation in _EIGHT_BITS)
    roof = exact / best["fp32"] + small / best["int8"]
    click.echo(
        f"{TITLES[family]} {precision}, {labels} labels; {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, ONNX Runtime {onnxruntime.__version__}"
    )
    click.echo(f"products of an image, 10⁹ operations: {exact / 1e9:.1f} in 32 bits, {small / 1e9:.1f} in 8")
    click.echo(
        f"best speed, 10⁹ a second: {best['fp32'] / 1e9:.0f} in 32 bits, {best['int8'] / 1e9:.0f} in 8"
    )
    click.echo(f"roof {roof:.3f} s an image, the bare model {seconds:.3f} s: {roof / seconds:.2f} of it")


def profile(detector: Detector, feed: dict[str, Any], rounds: int) -> tuple[float, dict[str, float]]:
    """Median seconds of a run, and the operations in one, two a multiplication, by kind of node."""
    bare = []
    for _ in range(rounds + 1):
        with Stopwatch() as watch:
            detector._image_session.run(list(detector.outputs), feed)
        bare.append(watch.wall)
    folder = detector.bundle.path
    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(
            str(folder / cpu_graph(IMAGE_GRAPH)), options, providers=["CPUExecutionProvider"]
        )
        session.run(list(detector.outputs), feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    work: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            details = event["args"]
            shapes = [next(iter(each.values())) for each in details["input_type_shape"]]
            results = [next(iter(each.values())) for each in details["output_type_shape"]]
            work[details["op_name"]] += operations(details["op_name"], shapes, results)
    return statistics.median(bare[1:]), work


def operations(name: str, inputs: list[list[int]], outputs: list[list[int]]) -> float:
    """Multiplications and additions in one node."""
    if name in ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", *_EIGHT_BITS):
        return 2.0 * math.prod(outputs[0]) * inputs[0][-1]
    if name in ("Conv", "FusedConv"):
        return 2.0 * math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if name == "MultiHeadAttention":
        queries, keys = inputs[0], inputs[1]
        return 4.0 * math.prod(queries) * keys[1]
    return 0.0


def product_speed(bits: str, rows: int = 577, width: int = 768) -> float:
    """Operations a second of one large product on all cores, the best of many runs."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((width, 4 * width)).astype(np.float32)
    if bits == "fp32":
        constants = [numpy_helper.from_array(weights, "w")]
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
    else:
        constants = [
            numpy_helper.from_array((weights * 30).clip(-127, 127).astype(np.int8), "w"),
            numpy_helper.from_array(np.full(4 * width, 0.03, np.float32), "scale"),
        ]
        node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "scale"], ["y"], domain="com.microsoft")
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 4 * width])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = {"x": rng.standard_normal((rows, width)).astype(np.float32)}
    taken = []
    for _ in range(60):
        with Stopwatch() as watch:
            session.run(None, x)
        taken.append(watch.wall)
    return 2.0 * rows * width * 4 * width / min(taken)


if __name__ == "__main__":
    main()
