"""The float32 weights in an ONNX file, by name, read without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[np.float32]]

# Field numbers of onnx/onnx onnx.proto (IR version 3 and later).
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 4, 8, 9
_FLOAT = 1


def read_weights(path: Path) -> Weights:
    """Every float32 initializer of the model's graph; a ValueError where the file is not such a model."""
    weights: Weights = {}
    try:
        for number, graph in _fields(memoryview(path.read_bytes())):
            if number == _MODEL_GRAPH and isinstance(graph, memoryview):
                for field, tensor in _fields(graph):
                    if field == _GRAPH_INITIALIZER and isinstance(tensor, memoryview):
                        weights |= _tensor(tensor)
    except IndexError as error:
        raise ValueError(f"{path} is not a whole ONNX model") from error
    return weights


def _tensor(message: memoryview) -> Weights:
    name, kind, shape, raw = "", 0, list[int](), b""
    for number, value in _fields(message):
        if number == _TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number == _TENSOR_DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif isinstance(value, memoryview) and number == _TENSOR_NAME:
            name = bytes(value).decode()
        elif isinstance(value, memoryview) and number in (_TENSOR_FLOATS, _TENSOR_RAW):
            raw += bytes(value)
    if kind != _FLOAT:
        return {}
    return {name: np.frombuffer(raw, "<f4").reshape(shape)}


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message; fixed-width fields come as their bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        size, position = _varint(message, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
        if position + size > len(message):
            raise IndexError(position)
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varints(message: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(message):
        value, position = _varint(message, position)
        values.append(value)
    return values
