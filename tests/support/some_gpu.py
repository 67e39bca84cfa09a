"""A GPU that torch seems to see: its name and its compute capability."""

from types import SimpleNamespace
from typing import Any

import torch


def describe_gpu(monkeypatch: Any, name: str = "Some GPU", capability: str = "9.0") -> None:
    """Let torch say this of any GPU."""
    major, minor = map(int, capability.split("."))
    properties = SimpleNamespace(name=name, major=major, minor=minor)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def see_gpu(monkeypatch: Any, capability: str) -> None:
    """Let torch see one GPU of a compute capability."""
    describe_gpu(monkeypatch, capability=capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
