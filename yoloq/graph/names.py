"""Names in an exported graph, and the modules of the network that they are of."""

from collections.abc import Collection

SCOPE = "/net/"  # how the exporter begins the name of what the network's modules do


def convolution_of(source: str, layers: Collection[str]) -> str:
    """The convolution among `layers` that an ONNX node or tensor is of; empty if none."""
    if not source.startswith(SCOPE):
        return ""
    return next((name for name in enclosing(module_of(source)) if name in layers), "")


def beside(module: str, layers: Collection[str]) -> str:
    """The only convolution beside a module, as that of an activation; empty if there is none."""
    parents = {name: name.rpartition(".")[0] for name in layers}
    for prefix in enclosing(module)[:-1]:  # the last is around all blocks
        found = [name for name, parent in parents.items() if parent == prefix]
        if len(found) == 1:
            return found[0]
    return ""


def module_of(name: str) -> str:
    """Dotted module of an exported name, with the operator behind it.

    The exporter repeats the name of a Sequential before that of its child:
    /net/model.2/m/m.0/cv1/conv/Conv -> model.2.m.0.cv1.conv.Conv
    """
    path: list[str] = []
    for part in name.removeprefix(SCOPE).split("/"):
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)


def enclosing(module: str) -> list[str]:
    """The module and those around it, the longest first."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
