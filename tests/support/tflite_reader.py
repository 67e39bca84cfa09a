"""What a .tflite file says, read by LiteRT's own schema."""

from dataclasses import dataclass

from yoloq.engines import packages

Held = tuple[str, list[float], int]  # type, scales, zero-point


@dataclass(frozen=True)
class Written:
    """One operator of a file: (type, scales, zero-point) of what it reads and of its result."""

    name: str
    read: list[Held]
    result: Held


def operators(content: bytes) -> list[Written]:
    """Those of a file, in their order."""
    schema = packages.litert_schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names, types = _words(schema.BuiltinOperator), _words(schema.TensorType)
    [graph] = model.subgraphs

    def held(number: int) -> Held:
        tensor = graph.tensors[number]
        steps = tensor.quantization
        if steps is None or steps.scale is None:
            return types[tensor.type], [], 0
        return types[tensor.type], list(steps.scale), int(steps.zeroPoint[0])

    return [
        Written(
            names[model.operatorCodes[each.opcodeIndex].builtinCode],
            [held(number) for number in each.inputs],
            held(each.outputs[0]),
        )
        for each in graph.operators
    ]


def _words(kind: type) -> dict[int, str]:
    """Names of an enumeration of the schema by their numbers."""
    return {number: name for name, number in vars(kind).items() if not name.startswith("_")}
