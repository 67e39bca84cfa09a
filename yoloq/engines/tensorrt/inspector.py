"""What TensorRT made of a graph: the EngineInspector's JSON of 10.x and 11.x, and a report on it.

Layers carry their parameters only where the engine was built with detailed profiling verbosity.
The fields are those of NVIDIA's pages "Engine Inspector" (10.16) and "Migrating IEngineInspector
Usage from TensorRT 10.x to 11.x"; the latter splits `Format/Datatype` into `Format` and `Datatype`.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yoloq.base.errors import EngineError
from yoloq.graph.names import convolution_of

TYPES = {  # the inspector's words for a type, in lower case
    "int8": "int8",
    "uint8": "uint8",
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp8": "fp8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
TYPE = re.compile(rf"\b({'|'.join(TYPES)})\b", re.IGNORECASE)  # in "Row major linear FP32 format"
ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")  # the parts of a layer's Metadata
NODE = re.compile(r"/[\w./-]+")  # an exported node's name inside a layer's
COPY = re.compile(r"_clone_\d+$")  # TensorRT's suffix of a node that it doubled
CONVOLUTION = re.compile(r"/Conv(_\d+)?$")  # how the exporter ends the name of one
NO_WORK = frozenset(
    {"Reformat", "Constant", "NoOp", "signal", "wait"}
)  # kinds that compute nothing
FLOATS = ("fp32", "fp16", "bf16", "fp8")


@dataclass(frozen=True)
class LayerInfo:
    """One layer of an engine.

    Attributes:
        name: unique in the engine; the profiler calls it so too.
        kind: TensorRT's word, such as CaskConvolution, Reformat or kgen (a generated kernel).
        inputs, outputs: types of its tensors, `int8`, `fp16`, ...; empty where none was told.
        nodes: names of the ONNX nodes that were fused into it; of a Reformat that TensorRT added,
            those of the layer that it serves.
        tactic: name of the kernel; empty where none was told.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    tactic: str = ""

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "LayerInfo":
        """One from its fields as plain data."""
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        return LayerInfo(**{**data, **lists})

    @property
    def is_convolution(self) -> bool:
        """Whether a convolution of the graph runs in it, fused with others or not."""
        if self.kind in NO_WORK:
            return False
        return "Conv" in self.kind or any(CONVOLUTION.search(node) for node in self.nodes)

    @property
    def precision(self) -> str:
        """The type that it computes in: int8 where it reads int8, else that of its first float.

        FP32 is `tf32` where the kernel's name says that it rounds its inputs to that.
        """
        if "int8" in self.inputs:
            return "int8"
        types = [*self.inputs, *self.outputs]
        found = next((name for name in types if name in FLOATS), types[0] if types else "unknown")
        return "tf32" if found == "fp32" and "tf32" in self.tactic.lower() else found


def read_layers(text: str) -> list[LayerInfo]:
    """Layers of `get_engine_information(LayerInformationFormat.JSON)` in the order of execution.

    Raises:
        EngineError: it is no such JSON.
    """
    try:
        # not strict: the metadata's parts stand apart by a control character
        return [_layer(item) for item in json.loads(text, strict=False)["Layers"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(
            f"TensorRT's layer information cannot be read ({type(error).__name__}: {error}); "
            "this version writes it in another form: use 10.x or 11.x"
        ) from None


def named(name: str) -> LayerInfo:
    """What the name of a layer tells alone, which is made of its nodes'."""
    return LayerInfo(name, "", nodes=_nodes(name, ""))


def _layer(item: Mapping[str, Any] | str) -> LayerInfo:
    """One entry; a mere name where the engine was built without detailed verbosity."""
    if isinstance(item, str):
        return named(item)
    name = item["Name"]
    return LayerInfo(
        name,
        item.get("LayerType", ""),
        _types(item.get("Inputs", ())),
        _types(item.get("Outputs", ())),
        _nodes(name, item.get("Metadata") or ""),
        item.get("TacticName") or "",
    )


def _types(tensors: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    words = (
        t.get("Datatype") or t.get("DataType") or t.get("Format/Datatype", "") for t in tensors
    )
    found = (TYPE.findall(word) for word in words)
    return tuple(TYPES[types[-1].lower()] if types else "unknown" for types in found)


def _nodes(name: str, metadata: str) -> tuple[str, ...]:
    """The graph's nodes from the metadata, or from the layer's name, which is made of theirs."""
    nodes = ORIGIN.findall(metadata) or NODE.findall(name)
    return tuple(dict.fromkeys(COPY.sub("", node) for node in nodes))


@dataclass(frozen=True)
class LayerReport:
    """What an engine's layers run in.

    Attributes:
        precisions: how many layers compute in each type; those that only move data are apart.
        reformats: how many layers only change a tensor's format or type.
        convolutions: type of each convolution of the network that a layer names.
        not_int8: those that were to run in int8 and do not.
    """

    precisions: Mapping[str, int]
    reformats: int
    convolutions: Mapping[str, str]
    not_int8: tuple[str, ...]

    def summary(self) -> str:
        """The counts in one line."""
        counts = ", ".join(f"{count} {name}" for name, count in self.precisions.items())
        return f"{counts} layers, {self.reformats} reformats"

    def to_json(self, layers: Sequence[LayerInfo]) -> dict[str, Any]:
        """The report and the layers that it is about, as plain data."""
        each = [{**asdict(layer), "precision": layer.precision} for layer in layers]
        return {**asdict(self), "layers": each}


def layer_report(
    layers: Sequence[LayerInfo], convolutions: Collection[str], int8: Collection[str] = ()
) -> LayerReport:
    """Count what an engine's layers run in.

    Args:
        layers: what `read_layers` gave.
        convolutions: names of the network's convolutions.
        int8: those of them that are to run in int8; one that no layer names is not missed.
    """
    working = [layer for layer in layers if layer.kind not in NO_WORK]
    found: dict[str, str] = {}
    for layer in working:
        if layer.is_convolution:
            nodes = [node for node in layer.nodes if CONVOLUTION.search(node)]
            names = (convolution_of(node, convolutions) for node in nodes)
            found |= {name: layer.precision for name in names if name}
    missed = tuple(name for name, type_ in found.items() if name in int8 and type_ != "int8")
    counts = Counter(layer.precision for layer in working)
    reformats = sum(layer.kind == "Reformat" for layer in layers)
    return LayerReport(dict(counts), reformats, found, missed)
