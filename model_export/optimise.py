"""A graph that starts quickly: ONNX Runtime's optimisation is done at export instead of at every start.

Opening OWL-ViT's graph takes ONNX Runtime over a second, mostly for optimisation. The optimised graph,
``image.cpu.onnx``, is saved beside the portable ``image.onnx`` and shares its file of weights, except for
weights that the optimisation created. It is for the CPU, and for the version of ONNX Runtime that wrote it;
with another version, and on CUDA, `boxdrop.detect.Detector` opens the portable graph.
"""

import hashlib
import tempfile
from pathlib import Path

import onnx
import onnxruntime
from onnx.external_data_helper import set_external_data

from boxdrop.detect.bundle import cpu_graph
from model_export.attention import fuse_attention

_SMALL = 1024  # bytes; shapes and axes must stay in the graph


def optimise(file: Path) -> list[Path]:
    """Write the optimised graph beside `file`. Returns the files written."""
    target = file.with_name(cpu_graph(file.name))
    data = target.with_name(target.name + ".data")
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        staged = Path(scratch) / target.name
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(staged)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data.name)
        options.add_session_config_entry("session.disable_prepacking", "1")  # what is packed is not written
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        model = onnx.load(str(staged))
    fuse_attention(model)
    known = _places(file)
    end = 0
    with data.open("wb") as stream:
        for tensor in model.graph.initializer:
            content = tensor.raw_data
            if len(content) < _SMALL:
                continue
            place = known.get(hashlib.sha256(content).digest())
            if place is not None:
                set_external_data(tensor, *place)
            else:
                set_external_data(tensor, data.name, end, len(content))
                stream.write(content)
                padding = -len(content) % 4096  # ONNX Runtime maps whole pages
                stream.write(b"\0" * padding)
                end += len(content) + padding
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    target.write_bytes(model.SerializeToString())
    if end:
        return [target, data]
    data.unlink()
    return [target]


def _places(file: Path) -> dict[bytes, tuple[str, int, int]]:
    """Maps the hash of each of a graph's weights to its place in the file of weights: (file, offset,
    length)."""
    model = onnx.load(str(file), load_external_data=False)
    places = {}
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "location" in entries:
            place = (entries["location"], int(entries.get("offset", 0)), int(entries["length"]))
            with (file.parent / place[0]).open("rb") as stream:
                stream.seek(place[1])
                places[hashlib.sha256(stream.read(place[2])).digest()] = place
    return places
