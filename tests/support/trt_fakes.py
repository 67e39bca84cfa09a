"""Fakes of TensorRT's objects that allow only what the bindings' real classes have.

A fake's members are those of the class in the installed bindings, and a call is checked against the
signature in the member's docstring: names and number of arguments, and their types. So code that
runs on fakes of both versions uses nothing that one of them lacks. That the engine works they do
not show.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

PREFIX = "tensorrt_bindings.tensorrt."
REQUIRED = object()
SIMPLE: dict[str, Callable[[Any], bool]] = {
    "typing.SupportsInt": lambda x: hasattr(x, "__int__") and not isinstance(x, str),
    "typing.SupportsFloat": lambda x: isinstance(x, int | float),
    "int": lambda x: isinstance(x, int),
    "float": lambda x: isinstance(x, float),
    "bool": lambda x: isinstance(x, bool),
    "str": lambda x: isinstance(x, str),
    "None": lambda x: x is None,
    "object": lambda x: True,
}


@dataclass(frozen=True)
class Signature:
    """One overload of a bound function, without `self`: (name, type, default), and the result."""

    parameters: tuple[tuple[str, str, Any], ...]
    result: str

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name.

        Raises:
            TypeError: one is missing, unknown or given twice.
        """
        names = [name for name, _, _ in self.parameters]
        if len(args) > len(names):
            raise TypeError(f"{len(args)} arguments for {names}")
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in bound:
                raise TypeError(f"argument {name} is unknown or given twice; there are {names}")
            bound[name] = value
        for name, _, default in self.parameters:
            if name not in bound and default is REQUIRED:
                raise TypeError(f"argument {name} is missing")
        return bound


def signatures(doc: str) -> list[Signature]:
    """The overloads that a docstring of pybind11 begins with."""
    lines = [re.sub(r"^\d+\. ", "", line) for line in (doc or "").strip().splitlines()]
    found = [line for line in lines if re.match(r"\w*\(.*\) -> \S", line)]
    result = []
    for line in found:
        inside, _, returned = line.partition("(")[2].rpartition(") -> ")
        parameters = [_parameter(text) for text in _split(inside) if not text.startswith("*")]
        result.append(Signature(tuple(parameters[1:]), returned.strip()))  # without self
    return result


def _split(text: str) -> list[str]:
    """Parts between the commas that no bracket encloses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _parameter(text: str) -> tuple[str, str, Any]:
    declared, _, default = text.partition(" = ")
    name, _, kind = declared.partition(": ")
    return name, kind, default or REQUIRED


class FakeTensorRT(ModuleType):
    """Stands for the module `tensorrt`: real enums and base classes, fakes for the rest.

    Args:
        trt: the real bindings.
        behaviours: "Class.member" -> what a call of it answers, given the fake and the arguments
            by name; or, for a property, its value or a function of the fake. A method without one
            answers True, 0, "", None, or a new fake of the class that its docstring names.

    Attributes:
        calls: (class, method, arguments by name), in order.
        made: all fakes, in order.
    """

    def __init__(self, trt: ModuleType, behaviours: Mapping[str, Any]) -> None:
        super().__init__("tensorrt")
        self.__spec__ = trt.__spec__  # importlib.util.find_spec asks an imported module
        self.trt = trt
        self.behaviours = dict(behaviours)
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.made: list[Fake] = []
        for key in behaviours:
            kind, _, member = key.partition(".")
            assert member in dir(getattr(trt, kind)), f"{key} is in no TensorRT {trt.__version__}"

    @property
    def __version__(self) -> str:
        return self.trt.__version__

    def __getattr__(self, name: str) -> Any:
        if name in ("Builder", "Runtime", "OnnxParser"):
            return lambda *args, **kwargs: self.construct(name, args, kwargs)
        return getattr(self.trt, name)

    def construct(self, kind: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Fake":
        """What calling a class gives, with its arguments checked."""
        constructor = signatures(getattr(self.trt, kind).__init__.__doc__)
        bound = self.matching(f"{kind}.__init__", constructor, args, kwargs)[1]
        made = self.new(kind)
        self.calls.append((kind, "__init__", bound))
        behaviour = self.behaviours.get(f"{kind}.__init__")
        if behaviour is not None:
            behaviour(made, **bound)
        return made

    def new(self, kind: str, **values: Any) -> "Fake":
        """A fake of a class with values of some of its properties."""
        made = Fake(self, kind)
        for name, value in values.items():
            assert name in dir(getattr(self.trt, kind)), f"{kind} has no {name}"
            made._values[name] = value
        self.made.append(made)
        return made

    def named(self, kind: str) -> list["Fake"]:
        """The fakes of a class."""
        return [fake for fake in self.made if fake._kind == kind]

    def called(self, kind: str, method: str) -> list[dict[str, Any]]:
        """The arguments of each call of a method."""
        return [bound for k, m, bound in self.calls if (k, m) == (kind, method)]

    def matching(
        self,
        name: str,
        overloads: Sequence[Signature],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[Signature, dict[str, Any]]:
        """The overload that takes the arguments, and these by name."""
        assert overloads, f"{name} has no signature in its docstring"
        problems = []
        for signature in overloads:
            try:
                bound = signature.bind(args, kwargs)
                kinds = {parameter: kind for parameter, kind, _ in signature.parameters}
                for parameter, value in bound.items():
                    self.check(f"{name}({parameter})", value, kinds[parameter])
                return signature, bound
            except TypeError as error:
                problems.append(str(error))
        raise TypeError(f"{name}, TensorRT {self.trt.__version__}: {'; '.join(problems)}")

    def check(self, what: str, value: Any, kind: str) -> None:
        """Raise TypeError unless a value is of the type that a docstring names."""
        kind = kind.removesuffix(" | None").removeprefix(PREFIX)
        if kind in SIMPLE:
            fits = SIMPLE[kind](value)
        elif kind == "typing_extensions.Buffer":
            memoryview(value)  # raises TypeError
            fits = True
        elif kind == "Dims":
            fits = isinstance(value, tuple | list | self.trt.Dims)
        elif isinstance(value, Fake):
            # a fake layer stands for the base class too, as the real one does
            fits = kind == value._kind or kind in [
                base.__name__ for base in getattr(self.trt, value._kind).__mro__
            ]
        elif isinstance(getattr(self.trt, kind, None), type):
            fits = isinstance(value, getattr(self.trt, kind)) or value is None
        else:
            fits = True  # a container, or a type that the docstring names by its C++ name
        if not fits:
            raise TypeError(f"{what}: {value!r} is no {kind}")


class Fake:
    """One object of a class of TensorRT's; see `FakeTensorRT`."""

    def __init__(self, world: FakeTensorRT, kind: str) -> None:
        object.__setattr__(self, "_world", world)
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_class", getattr(world.trt, kind))
        object.__setattr__(self, "_values", {})

    def __repr__(self) -> str:
        return f"<fake {self._kind}>"

    def _member(self, name: str) -> Any:
        for base in self._class.__mro__:
            if name in vars(base):
                return vars(base)[name]
        raise AttributeError(f"TensorRT {self._world.trt.__version__}: {self._kind} has no {name}")

    def __getattr__(self, name: str) -> Any:
        member = self._member(name)
        world, key = self._world, f"{self._kind}.{name}"
        if isinstance(member, property):
            if name in self._values:
                return self._values[name]
            assert key in world.behaviours, f"{key} was read, and the test gives it no value"
            value = world.behaviours[key]
            return value(self) if callable(value) else value
        return lambda *args, **kwargs: self._call(name, member, args, kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        member = self._member(name)
        key = f"{self._kind}.{name}"
        if not isinstance(member, property) or member.fset is None:
            raise AttributeError(f"TensorRT {self._world.trt.__version__}: {key} cannot be set")
        for signature in signatures(member.fset.__doc__):
            self._world.check(key, value, signature.parameters[0][1])
        self._values[name] = value

    def _call(self, name: str, member: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        world, key = self._world, f"{self._kind}.{name}"
        overloads = signatures(member.__doc__)
        signature, bound = world.matching(key, overloads, args, kwargs)
        world.calls.append((self._kind, name, bound))
        if key in world.behaviours:
            return world.behaviours[key](self, **bound)
        kind = signature.result.removesuffix(" | None").removeprefix(PREFIX)
        simple = {"None": None, "bool": True, "int": 0, "str": "", "float": 0.0}
        if kind in simple:
            return simple[kind]
        assert isinstance(getattr(world.trt, kind, None), type), f"{key} needs a behaviour"
        return world.new(kind)
