"""What TensorRT for RTX says that it built: one verbose message of its builder, a line a layer.

It is all that is known of an engine where there is no GPU to load it.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from yoloq.engines.tensorrt.inspector import CONVOLUTION, ORIGIN, TYPES, LayerInfo

LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+)(, Inputs: (?P<inputs>.*?))?"
    r"(, Constants: .*?)?(, Outputs: (?P<outputs>.*?))?, TacticName: (?P<tactic>.*?), StreamId: \d+"
    r"(, Metadata: (?P<nodes>.*))?$"
)
DATATYPE = re.compile(r"Datatype: (\w+)")  # of a tensor, once each
MATRIX = ("correlation", "runtime_fusion")  # kinds that convolve; the latter activates as well


def read_layer_log(text: str) -> list[LayerInfo]:
    """The layers of a message, in the order of execution; what is no layer's line is left out."""
    found = (LINE.match(line) for line in text.splitlines())
    layers = [_layer(line) for line in found if line]
    inside = {node for layer in layers if layer.kind in MATRIX for node in layer.nodes}
    convolutions = {node for node in inside if CONVOLUTION.search(node)}
    return [each if each.kind in MATRIX else _without(each, convolutions) for each in layers]


def _layer(line: re.Match[str]) -> LayerInfo:
    nodes = tuple(dict.fromkeys(ORIGIN.findall(line["nodes"] or "")))
    inputs, outputs = _types(line["inputs"]), _types(line["outputs"])
    return LayerInfo(line["name"], line["kind"], inputs, outputs, nodes, line["tactic"])


def _types(tensors: str | None) -> tuple[str, ...]:
    return tuple(TYPES.get(word.lower(), "unknown") for word in DATATYPE.findall(tensors or ""))


def _without(layer: LayerInfo, nodes: Collection[str]) -> LayerInfo:
    """A kernel without convolutions that another computes: it only pads, or adds the bias."""
    return replace(layer, nodes=tuple(node for node in layer.nodes if node not in nodes))
