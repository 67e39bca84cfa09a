"""Operators that ONNX does not have: plugins or slips; without them the rest can be looked at."""

from collections.abc import Sequence

import onnx
from onnx import helper

from yoloq.graph.lint.nodes import every

UNKNOWN = "unknown"  # the domain that they get: the ONNX checker lets other domains than its own be

Scope = onnx.ModelProto | onnx.FunctionProto  # says which version of an operator its nodes mean


def set_apart(model: onnx.ModelProto) -> frozenset[str]:
    """Move operators without a schema to `UNKNOWN`, and import every domain, in place.

    ai.onnx is another name of the default domain, which the checker does not know.

    Returns:
        The domains of other operators that were not imported.
    """
    functions = {(function.domain, function.name) for function in model.functions}
    scopes: list[tuple[Scope, Sequence[onnx.NodeProto]]] = [(model, model.graph.node)]
    scopes += [(function, function.node) for function in model.functions]
    found = frozenset[str]()
    for scope, nodes in scopes:
        others = [node for node in every(nodes) if (node.domain, node.op_type) not in functions]
        found |= _set_apart(scope, others)
    return found


def _set_apart(scope: Scope, nodes: Sequence[onnx.NodeProto]) -> frozenset[str]:
    versions = {_domain(each): each.version for each in scope.opset_import}
    for node in nodes:
        node.domain = domain = _domain(node)
        # a model that does not import the default domain is left to the checker to refuse
        official = domain in versions if not domain else domain.startswith("ai.onnx.")
        if official and not _has(node, versions.get(domain, 0)):
            node.domain = UNKNOWN
    missing = {node.domain for node in nodes} - versions.keys() - {""}
    scope.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(missing))
    return frozenset(missing - {UNKNOWN})


def _domain(named: onnx.NodeProto | onnx.OperatorSetIdProto) -> str:
    return "" if named.domain == "ai.onnx" else named.domain


def _has(node: onnx.NodeProto, version: int) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, version, node.domain)
    except onnx.defs.SchemaError:
        return False
    return True
