"""Does an ONNX graph have Q/DQ where an engine wants them: a table of rules, each a predicate.

What an engine refuses or computes wrongly is an error, what only costs time a warning; so is an
operator that TensorRT has to have a plugin for. Why a rule holds for some engines and not for
others stands with its predicate.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import onnx

from yoloq.base.errors import UserError
from yoloq.base.machine import is_x86_without_amx
from yoloq.graph.lint import TARGETS, groups, integers, pairs, results, structure, typed, values
from yoloq.graph.lint.lookup import Hit, OnnxView
from yoloq.graph.lint.valid import DamagedError

TENSORRT, OPENVINO, ONNXRUNTIME = ((target,) for target in TARGETS)
Level = Literal["error", "warning"]


@dataclass(frozen=True)
class LintFinding:
    """What is wrong with a graph, and where.

    Attributes:
        level: `error`: the engine refuses it or computes something else; `warning`: it is slow, or
            needs a plugin.
        rule: name of a rule.
        nodes: names of the nodes to mend; none where it is about the whole graph.
        message: what is wrong with each of them.
        fix: what to do.
    """

    level: Level
    rule: str
    nodes: tuple[str, ...]
    message: str
    fix: str


@dataclass(frozen=True)
class LintRule:
    """One row of the table: a predicate, the engines that it holds for, and what mends it.

    `here` says whether it matters on this machine.
    """

    name: str
    level: Level
    targets: tuple[str, ...]
    find: Callable[[OnnxView], Iterator[Hit]]
    fix: str
    here: Callable[[], bool] = lambda: True


SYMMETRIC = "quantize symmetrically to int8 and write zero-points of 0"
STATIC = "quantize statically: scales are constants"
PER_CHANNEL = "quantize a weight along its output channels and write that `axis`"
PER_TENSOR = "quantize activations per tensor"
FOLD = "fold it into the convolution before calibrating"
BOTH_SIDES = "quantize input and weight, or neither"
SHARE = "calibrate them with one scale"
RULES = (
    LintRule("zero-point", "error", TENSORRT, values.zero_points, SYMMETRIC),
    LintRule(
        "weight-zero-point",
        "warning",
        OPENVINO,
        values.weight_zero_points,
        "quantize weights symmetrically",
    ),
    LintRule(
        "scale-value",
        "error",
        TARGETS,
        values.scale_values,
        "calibrate again, on images; a dead tensor takes any positive scale",
    ),
    LintRule(
        "weight-value",
        "error",
        TARGETS,
        values.weight_values,
        "export again from trained weights, scales above 0; take out a layer that has none",
    ),
    LintRule(
        "joined-scores",
        "error",
        TARGETS,
        results.joined_scores,
        "leave the decode and this Concat in float: no Q behind the raw head",
    ),
    LintRule(
        "coarse-output",
        "error",
        TARGETS,
        results.coarse_outputs,
        "let the output leave in float: no Q behind the raw head",
    ),
    LintRule(
        "image-cast",
        "error",
        TENSORRT,
        results.images,
        "cast the image to floats first, then move its channels",
    ),
    LintRule("computed-scale", "error", TENSORRT, values.computed_scales, STATIC),
    LintRule("computed-scale", "warning", OPENVINO, values.computed_scales, STATIC),
    LintRule(
        "scale-length",
        "error",
        TARGETS,
        values.scale_lengths,
        "give a weight one scale for each output channel, or one in all",
    ),
    LintRule("scale-axis", "error", ONNXRUNTIME, values.scale_axes, PER_CHANNEL),
    LintRule("scale-axis", "warning", (*TENSORRT, *OPENVINO), values.scale_axes, PER_CHANNEL),
    LintRule("activation-scale", "error", ONNXRUNTIME, values.activation_scales, PER_TENSOR),
    LintRule(
        "activation-scale", "warning", (*TENSORRT, *OPENVINO), values.activation_scales, PER_TENSOR
    ),
    LintRule(
        "block-axis",
        "error",
        TENSORRT,
        values.block_axes,
        "quantize in blocks along one of the last two axes, or a scale a channel",
    ),
    LintRule(
        "bare-integers",
        "error",
        TENSORRT,
        structure.bare_integers,
        "read an int8 constant with DequantizeLinear alone, or write it as floats",
    ),
    LintRule(
        "unknown-operator",
        "error",
        (*OPENVINO, *ONNXRUNTIME),
        structure.unknown_operators,
        "write it with operators of ONNX, or import the domain of an extension that has it",
    ),
    LintRule(
        "plugin",
        "warning",
        TENSORRT,
        structure.plugins,
        "load the plugin of that name before the graph is parsed, or mend the name",
    ),
    LintRule(
        "integer-operator",
        "error",
        (*TENSORRT, *OPENVINO),
        structure.integer_operators,
        "export in the Q/DQ format instead of the operator format, statically quantized",
    ),
    LintRule(
        "int32-bias",
        "error",
        TENSORRT,
        structure.integer_bias,
        "leave the bias in float (ONNX Runtime's quantizer: extra option QuantizeBias=False)",
    ),
    LintRule(
        "opset", "error", TENSORRT, structure.opset, "export with opset 13, better 19 or later"
    ),
    LintRule(
        "opset-fp16",
        "error",
        TARGETS,
        structure.opset_of_half_scales,
        "export with opset 19 or later, or keep scales in FP32",
    ),
    LintRule(
        "quantized-output",
        "warning",
        TENSORRT,
        structure.quantized_outputs,
        "let the output leave in float: no Q in front of it",
    ),
    LintRule("dangling", "warning", TENSORRT, structure.dangling, "quantize in pairs, Q then DQ"),
    LintRule("batch-norm", "warning", (*TENSORRT, *ONNXRUNTIME), structure.batch_norm, FOLD),
    LintRule("half-quantized", "warning", (*TENSORRT, *OPENVINO), pairs.half_quantized, BOTH_SIDES),
    LintRule("half-quantized", "warning", ONNXRUNTIME, integers.float_inputs, BOTH_SIDES),
    LintRule(
        "before-activation",
        "warning",
        (*TENSORRT, *OPENVINO),
        pairs.before_activation,
        "quantize behind the activation, at the input of the next convolution",
    ),
    LintRule(
        "inside-silu",
        "warning",
        (*TENSORRT, *OPENVINO),
        pairs.inside_silu,
        "quantize behind SiLU's Mul, at the input of the next convolution",
    ),
    LintRule(
        "two-scales",
        "warning",
        TARGETS,
        pairs.two_scales,
        "share one pair among all its readers",
    ),
    LintRule(
        "signed-concat",
        "warning",
        OPENVINO,
        pairs.signed_concats,
        "it is computed wrongly on x86 CPUs without AMX: quantize activations to uint8 there",
        is_x86_without_amx,
    ),
    LintRule(
        "sibling-scales",
        "warning",
        TARGETS,
        pairs.sibling_scales,
        "share one pair among the convolutions",
    ),
    LintRule(
        "float-residual",
        "warning",
        TENSORRT,
        pairs.float_residual,
        "let the Q/DQ of the bottleneck's input serve the Add as well",
    ),
    LintRule("unequal-scales", "warning", TENSORRT, groups.unequal_scales, SHARE),
    LintRule(
        "far-scales",
        "warning",
        TENSORRT,
        groups.far_scales,
        "leave it in float: no one scale serves them all",
    ),
    LintRule("unequal-scales", "warning", ONNXRUNTIME, groups.unequal_pools, SHARE),
    LintRule(
        "float-output",
        "warning",
        ONNXRUNTIME,
        integers.float_outputs,
        "quantize the convolution's output as well",
    ),
    LintRule(
        "float-between",
        "warning",
        ONNXRUNTIME,
        integers.float_between,
        "put Q/DQ on its output as well",
    ),
    LintRule(
        "fp32-node",
        "warning",
        TENSORRT,
        typed.single_in_half,
        "make it FP16: weights, scales of Q/DQ, constants and casts",
    ),
    LintRule(
        "four-bit-weight",
        "warning",
        OPENVINO,
        typed.four_bit_weights,
        "run the file with the same weights in int8; keep this one for its size",
    ),
)


def lint(model: onnx.ModelProto, target: str, here: bool = False) -> list[LintFinding]:
    """What stands in the way of an engine that runs a graph fast, errors first.

    Places where the same is wrong are one finding. External data need not be loaded: weights are
    known by type and shape, and a scale that is not at hand is not judged.

    Args:
        model: any ONNX model, float ones included. Not changed.
        target: one of `TARGETS`.
        here: it is to be run on this machine, and nowhere else.

    Raises:
        UserError: the target is not known.
    """
    if target not in TARGETS:
        raise UserError(f"--target {target}: not one of {', '.join(TARGETS)}")
    try:
        findings = list(_findings(OnnxView(model), target, here))
    except DamagedError as error:
        fix = "export the model again; nothing else was looked at"
        return [LintFinding("error", "invalid-model", (), str(error), fix)]
    return sorted(findings, key=lambda finding: finding.level)  # stable: the table's order stays


def _findings(graph: OnnxView, target: str, here: bool) -> Iterator[LintFinding]:
    for rule in RULES:
        if target in rule.targets and (rule.here() or not here):
            places: dict[str, list[str]] = {}
            for hit in rule.find(graph):
                places.setdefault(hit.message, []).extend(hit.nodes)
            for message, nodes in places.items():
                yield LintFinding(rule.level, rule.name, tuple(nodes), message, rule.fix)
