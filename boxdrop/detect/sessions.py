"""Opening a graph of a bundle with ONNX Runtime."""

from typing import Final, Literal

import onnxruntime

from boxdrop.detect.bundle import TEXT_GRAPH, Bundle, cpu_graph
from boxdrop.domain.errors import BoxdropError, BundleError

Provider = Literal["cpu", "cuda"]

PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(
    bundle: Bundle, graph: str, provider: Provider, threads: int | None
) -> onnxruntime.InferenceSession:
    """Open one of a bundle's graphs.

    Args:
        bundle: where it is.
        graph: name of its file.
        provider: where it runs. ``cuda`` never falls back to the processor.
        threads: of one run on the processor; None takes all cores.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        BoxdropError: CUDA was requested and is not available.
    """
    runtime_provider = PROVIDERS[provider]
    if runtime_provider not in onnxruntime.get_available_providers():
        raise BoxdropError(
            "CUDA was requested, but the ONNX Runtime installed here has no CUDA; "
            "install onnxruntime-gpu instead of onnxruntime, or use the provider cpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings about graph clean-up are of no use to anyone
    if threads is not None:
        options.intra_op_num_threads = threads
    if graph == TEXT_GRAPH:  # it runs once for a label set: less work than rearranging its weights
        options.add_session_config_entry("session.disable_prepacking", "1")
    path = bundle.path / graph
    rewritten = cpu_graph(graph)
    if provider == "cpu" and rewritten in bundle.files and bundle.runtime == onnxruntime.__version__:
        path = bundle.path / rewritten
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[runtime_provider])
    except Exception as error:  # its exception classes have no common base but this
        raise BundleError(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}") from None
    # If CUDA's libraries fail to load, ONNX Runtime silently uses the CPU, 50 times slower.
    if session.get_providers()[0] != runtime_provider:
        raise BoxdropError(
            f"CUDA was requested, but ONNX Runtime {onnxruntime.__version__} fell back to the CPU; check "
            "that the driver, CUDA and cuDNN match it (nvidia-smi), or use the provider cpu"
        )
    session.disable_fallback()
    return session
