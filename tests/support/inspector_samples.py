"""Small layer informations in the forms of TensorRT 10.x and 11.x, after the documented fields."""

import json
from typing import Any

STEM = "/net/model.0/conv/Conv + PWN(/net/model.0/act/Sigmoid, /net/model.0/act/Mul)"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
FP16 = "Channel major FP16 format where channel % 8 == 0"
TACTIC = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs"

# name, kind, type or types read, type written, ONNX nodes, kernel
LAYERS: list[tuple[str, str, list[str], str, list[str], str]] = [
    (
        f"Reformatting CopyNode for Input Tensor 0 to {STEM}",
        "Reformat",
        ["Row major linear UInt8 format"],
        "Row major linear FP32",
        [],
        "",
    ),
    (
        STEM,
        "CaskConvolution",
        ["Row major linear FP32"],
        FP16,
        ["/net/model.0/conv/Conv", "/net/model.0/act/Sigmoid", "/net/model.0/act/Mul"],
        "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32",
    ),
    (
        "/net/model.0/act/Mul_output_0_Q",
        "Reformat",
        [FP16],
        INT8,
        ["/net/model.0/act/Mul_output_0_Q"],
        "",
    ),
    (
        "/net/model.2/cv1/conv/Conv || /net/model.2/cv2/conv/Conv",
        "CaskConvolution",
        [INT8],
        INT8,
        ["/net/model.2/cv1/conv/Conv", "/net/model.2/cv2/conv/Conv_clone_1"],
        TACTIC,
    ),
    (
        "__myl_ConvSiluAdd_myl0_1",
        "kgen",
        ["Half", "Int64", "Half"],
        "Half",
        ["/net/model.2/m/m.0/cv2/conv/Conv", "/net/model.2/m/m.0/Add"],
        "__myl_ConvSiluAdd",
    ),
    ("signal_1", "signal", [], "", [], ""),
]


def version_10() -> str:
    """With one field for format and type, and the bindings as mere names."""
    layers = [
        _layer(item, lambda word: {"Format/Datatype": word}, separator="\x1f") for item in LAYERS
    ]
    return json.dumps({"Layers": layers, "Bindings": ["images", "raw0"]})


def version_11() -> str:
    """With two fields, and the bindings described."""
    layers = [_layer(item, _split, separator="\x1e") for item in LAYERS]
    tensors = [{"Name": "images", "IOMode": "Input", "DataType": "UInt8", "Location": "Device"}]
    return json.dumps({"Layers": layers, "I/O Tensors": tensors})


def names_only() -> str:
    """Of an engine that was built without detailed verbosity."""
    return json.dumps({"Layers": [item[0] for item in LAYERS], "Bindings": ["images", "raw0"]})


def _split(word: str) -> dict[str, str]:
    kinds = {"Int8": "Int8", "FP16": "Half", "FP32": "Float", "UInt8": "UInt8"}
    found = next((type_ for name, type_ in kinds.items() if f" {name}" in word), word)
    return {"Format": word.replace(found, ""), "Datatype": found}


def _layer(item: Any, described: Any, separator: str) -> dict[str, Any]:
    name, kind, reads, writes, nodes, tactic = item
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Name": "x", "Dimensions": [1, 8, 8, 8], **described(word)} for word in reads],
        "Outputs": [{"Name": "y", **described(writes)}] if writes else [],
        "TacticName": tactic,
        "StreamId": 0,
        "Metadata": separator.join(f"[ONNX Layer: {node}]" for node in nodes),
    }
