"""Requests of the Open Inference Protocol for the service of `web_service.py`, good ones, to be changed by tests."""

import json
import struct
from typing import Any

import httpx
import numpy as np


def tensors(rows: int = 2) -> list[dict[str, Any]]:
    """A good request's inputs, as JSON."""
    columns: dict[str, tuple[str, list[int], list[Any]]] = {
        "ratio": ("FP32", [], [0.25]),
        "income": ("FP32", [], [None]),
        "count": ("INT64", [], [3]),
        "on": ("BOOL", [], [True]),
        "word": ("BYTES", [], ["héllo"]),
        "blob": ("BYTES", [], ["\x00é"]),
        "kind": ("BYTES", [], ["small"]),
        "colour": ("BYTES", [], ["blue"]),
        "place.lat": ("FP32", [], [1.5]),
        "place.lon": ("FP32", [], [2.5]),
        "trio": ("FP32", [3], [1.0, 2.0, 3.0]),
        "grid": ("FP32", [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    }
    return [
        {"name": name, "datatype": datatype, "shape": [rows, *shape], "data": data * rows}
        for name, (datatype, shape, data) in columns.items()
    ]


def given(inputs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """One of the inputs, to be changed."""
    return next(tensor for tensor in inputs if tensor["name"] == name)


def outputs_of(response: httpx.Response) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def binary(inputs: list[dict[str, Any]], *names: str, **members: Any) -> tuple[bytes, dict[str, str]]:
    """The request with some inputs as binary, and its headers."""
    dtypes = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}
    tail = b""
    for tensor in inputs:
        if tensor["name"] not in names:
            continue
        data = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            raw = b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in data)
        else:
            raw = np.array(data, dtype=dtypes[tensor["datatype"]]).tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
        tail += raw
    head = json.dumps({"inputs": inputs, **members}).encode()
    return head + tail, {
        "inference-header-content-length": str(len(head)),
        "content-type": "application/octet-stream",
    }
