"""Writes down each AWS call of a function: on the path of the emulator, which starts the functions."""

import json
import os
import sys
import threading
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

_FILE = os.environ.get("BOXDROP_TEST_CALLS")
_FUNCTION = os.environ.get("BOXDROP_TEST_FUNCTION") or os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
_KEPT = (
    "Bucket", "Key", "QueueUrl", "TableName", "IndexName", "SecretId", "jobQueue", "jobDefinition", "tags",
    "VersionId",
)  # fmt: skip
_lock = threading.Lock()


def _record(client: Any, operation: str, params: dict[str, Any], error: str | None) -> None:
    about = {name: params[name] for name in _KEPT if name in params}
    if "RequestItems" in params:
        about["TableName"] = next(iter(params["RequestItems"]))
    line = {
        "function": _FUNCTION,
        "service": client.meta.service_model.service_name,
        "operation": operation,
        "about": about,
        "error": error,
    }
    with _lock, open(str(_FILE), "a") as file:
        file.write(json.dumps(line, default=str) + "\n")


def _watch(module: Any) -> None:
    original = module.BaseClient._make_api_call

    def watched(self: Any, operation: str, params: dict[str, Any]) -> Any:
        try:
            answer = original(self, operation, params)
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            _record(self, operation, params, code or type(error).__name__)
            raise
        _record(self, operation, params, None)
        return answer

    module.BaseClient._make_api_call = watched


class _AfterImport(MetaPathFinder):
    """Steps in as botocore.client is imported; whoever does not import it, is left alone."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "botocore.client":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            _watch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if _FILE and _FUNCTION:
    sys.meta_path.insert(0, _AfterImport())
