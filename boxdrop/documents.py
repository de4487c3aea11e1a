"""JSON documents as frozen dataclasses: written field by field, checked field by field when they are read.

A document is read by the types of its dataclass: ``str``, ``int``, ``float``, ``bool``, ``datetime`` (ISO
8601, UTC, with a Z), ``Literal``, any of these or ``None``, tuples, dictionaries by text, and dataclasses.
Fields that the dataclass does not know are passed over, so that an older program reads a newer document.
"""

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from boxdrop.domain.times import read_time, time_text

T = TypeVar("T")


class DocumentError(ValueError):
    """A document that is not what its dataclass says: names the field."""


def to_json(document: Any, **extra: Any) -> str:
    """One line of JSON, only ASCII, without the newline.

    Args:
        document: an instance of a dataclass.
        extra: fields to put in front, such as ``format``.
    """
    fields = extra | _plain(document)
    return json.dumps(fields, separators=(",", ":"), allow_nan=False)


def from_json(
    kind: type[T],
    text: str | bytes,
    *,
    format: str | None = None,
    where: str = "",
    error: type[Exception] | None = None,
) -> T:
    """Read one object.

    Args:
        kind: the dataclass.
        text: JSON.
        format: what the field ``format`` must say, if there must be one.
        where: what messages begin with, such as ``s3://bucket/key: line 7``.
        error: raised instead of `DocumentError`.

    Raises:
        DocumentError: not JSON, another format, a field missing or of the wrong type, or what the dataclass
            itself refuses (``ValueError``).
    """
    try:
        return _from_json(kind, text, format)
    except DocumentError as problem:
        raise (error or DocumentError)(f"{where}: {problem}" if where else str(problem)) from None


def _from_json(kind: type[T], text: str | bytes, format: str | None) -> T:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"this is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise DocumentError("this must be a JSON object")
    if format is not None and fields.get("format") != format:
        raise DocumentError(f"format is {fields.get('format')!r}; this boxdrop reads {format!r}")
    return from_fields(kind, fields)


def from_fields(kind: type[T], fields: Mapping[str, Any], inside: str = "") -> T:
    """Read one object that is decoded already; see `from_json`."""
    definition: Any = kind
    values: dict[str, Any] = {}
    for name, expected, required in _fields_of(definition):
        where = f"{inside}.{name}" if inside else name
        if name in fields:
            values[name] = _read(expected, fields[name], where)
        elif required:
            raise DocumentError(f"`{where}` is missing")
    try:
        return kind(**values)
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"{inside}: {error}" if inside else str(error)) from None


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    types_of = typing.get_type_hints(kind)
    return tuple(
        (
            field.name,
            types_of[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return time_text(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _read(expected: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _read(next(each for each in arguments if each is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            allowed = ", ".join(repr(each) for each in arguments)
            raise DocumentError(f"`{where}` must be one of {allowed}, not {value!r}")
        return value
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise DocumentError(f"`{where}` must be an object, not {_short(value)}")
        return {key: _read(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        if not isinstance(value, dict):
            raise DocumentError(f"`{where}` must be an object, not {_short(value)}")
        return from_fields(expected, value, where)
    return _read_scalar(expected, value, where)


def _read_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise DocumentError(f"`{where}` must be a list, not {_short(value)}")
    kinds = (arguments[0],) * len(value) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(value):
        raise DocumentError(f"`{where}` must have {len(kinds)} entries, not {len(value)}")
    return tuple(
        _read(each, entry, f"{where}[{i}]") for i, (each, entry) in enumerate(zip(kinds, value, strict=True))
    )


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", datetime: "a time"}


def _read_scalar(expected: Any, value: Any, where: str) -> Any:
    if expected is datetime and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return read_time(value)
    elif expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif isinstance(value, expected) and isinstance(value, bool) == (expected is bool):
        return value
    raise DocumentError(f"`{where}` must be {_NAMES[expected]}, not {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
