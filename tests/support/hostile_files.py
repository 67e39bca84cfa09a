"""Checkpoints made to do harm: a name each, and what writes the file.

Each would touch the file `canary` beside it, take memory or time without end, or read what is not
its own. Nothing here runs what it writes.
"""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pickled_models import random_net, save_as_yolov5, tiny

Make = Callable[[Path], None]
HEAD = b"\x80\x02"  # protocol 2
STOP = b"."
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
CANARY = "canary"
DEEP = 40  # doublings: 10^12
KINDS = {"float": b"ctorch\nFloatStorage\n", "byte": b"ctorch\nByteStorage\n"}


def archive(
    code: bytes, parts: Mapping[str, bytes] | None = None, packed: int = zipfile.ZIP_STORED
) -> Make:
    """A zip file as torch writes it, with this pickle and these storages."""

    def make(file: Path) -> None:
        with zipfile.ZipFile(file, "w", packed, compresslevel=1) as out:
            out.writestr("archive/data.pkl", HEAD + code)
            out.writestr("archive/byteorder", b"little")
            for name, content in (parts or {}).items():
                out.writestr(f"archive/{name}", content)
            out.writestr("archive/version", b"3\n")

    return make


def legacy(code: bytes, rest: bytes = b"") -> Make:
    """A file as torch wrote it before 1.6."""

    def make(file: Path) -> None:
        system = pickle.dumps({"little_endian": True}, 2)
        file.write_bytes(MAGIC + pickle.dumps(1001, 2) + system + HEAD + code + rest)

    return make


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def storage(numel: int, key: str = "0", kind: str = "float", view: bytes | None = None) -> bytes:
    """A persistent id of a storage; with a view (`N` for none) as it was before 1.6."""
    parts = text("storage") + KINDS[kind] + text(key) + text("cpu") + whole(numel)
    return b"(" + parts + (view or b"") + b"tQ"


def sizes(*values: int) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(
    claimed: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, **more: Any
) -> bytes:
    """A tensor over a storage that claims so many floats."""
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    stored = storage(claimed, **more)
    return name + b"(" + stored + whole(offset) + sizes(*shape) + sizes(*stride) + b"\x89NtR"


def call(module: str, name: str, *arguments: str) -> bytes:
    given = b"".join(map(text, arguments))
    return f"c{module}\n{name}\n".encode() + b"(" + given + b"tR" + STOP


def touch(module: str, name: str, argument: str = "touch {}") -> Make:
    """A call that would make the canary."""

    def make(file: Path) -> None:
        trace = file.parent / CANARY
        archive(call(module, name, argument.format(trace)))(file)

    return make


def chain(file: Path) -> None:
    """getattr(getattr(__import__('os'), 'system'), '__call__')('touch canary')."""
    code = b"cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(cbuiltins\n__import__\n("
    code += text("os") + b"tR" + text("system") + b"tR" + text("__call__") + b"tR("
    archive(code + text(f"touch {file.parent / CANARY}") + b"tR" + STOP)(file)


def doubled(start: bytes, twice: bytes, times: int = DEEP) -> bytes:
    """A value that holds the value before it twice, and so on.

    Args:
        twice: makes the next of what is stored at place 0, which it may read as often as it wants.
    """
    return start + b"q\x000" + (twice + b"q\x000") * times + b"h\x00"


def stub(path: str, state: bytes) -> bytes:
    """An object of a class with a dict for its state; `state` is keys and values."""
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b")\x81}(" + state + b"ub"


def modules(children: bytes) -> bytes:
    return text("_modules") + b"}(" + children + b"u"


def model(state: bytes) -> bytes:
    """{"model": a model of YOLOv5}."""
    return b"}" + text("model") + stub("models.yolo.Model", state) + b"s" + STOP


SEQUENTIAL = "torch.nn.modules.container.Sequential"
READ = b"h\x00"  # what stands at place 0 of the memo


def many_members(file: Path) -> None:
    """A table of contents of 300,000 parts of nothing."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 5) + bytes(16) + b"a/b/c"
    table = entry * 300_000
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + struct.pack("<II", len(table), 40)
    file.write_bytes(b"PK\x03\x04" + bytes(36) + table + end + bytes(2))


def overlapping_parts(file: Path) -> None:
    """A thousand names of one part."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("archive/data.pkl", HEAD + b"}" + STOP)
        out.writestr("archive/data/0", bytes(100_000))
        [first] = [part for part in out.infolist() if part.filename.endswith("/0")]
        for index in range(1, 1000):
            copied = zipfile.ZipInfo(f"archive/data/{index}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copied, name, getattr(first, name))
            out.filelist.append(copied)
    file.write_bytes(buffer.getvalue())


def twice(file: Path) -> None:
    """Two pickles of one name: readers may differ in which they take."""
    archive(b"}" + STOP)(file)
    with zipfile.ZipFile(file, "a") as out:
        out.writestr("archive/data.pkl", HEAD + call("os", "system", "true"))


def paths(file: Path) -> None:
    """Parts that would lie elsewhere if they were unpacked, and a pickle that asks for them."""
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", HEAD + tensor(1, (1,), (1,), key=f"../../{CANARY}") + STOP)
        for name in (f"archive/data/../../{CANARY}", f"/{CANARY}", f"..\\{CANARY}", "a\x00b"):
            out.writestr(name, b"1234")


def nested(file: Path) -> None:
    """A zip in a zip."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as out:
        out.writestr("archive/data.pkl", HEAD + call("os", "system", "true"))
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("archive/data.pkl", inner.getvalue())


def own(spec: Any, tensors: Mapping[str, torch.Tensor] | None = None, **meta: Any) -> Make:
    """yoloq's own format around any description."""

    def make(file: Path) -> None:
        whole = {"family": "yolov5", "spec": spec, "names": ["a"], "fused": False, "imgsz": 64}
        text = json.dumps({**whole, "extra": {}, **meta})
        torch.save({"yoloq": 2, "meta": text, "state_dict": dict(tensors or {})}, file)

    return make


def layer(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"from": -1, "class": kind, "attributes": attributes, "children": {}}


def changed_model(change: Callable[[Any], None]) -> Make:
    """A checkpoint of YOLOv5 of which something was changed before it was pickled."""

    def make(file: Path) -> None:
        net = random_net(tiny(2))
        change(net)
        save_as_yolov5(file, net)

    return make


def widest(net: Any) -> None:
    net.model[0].conv.padding = (200_000, 200_000)


def enlarged(net: Any) -> None:
    upsample = next(m for m in net.modules() if isinstance(m, torch.nn.Upsample))
    upsample.scale_factor = 30_000.0


def strided(net: Any) -> None:
    net.model[-1].stride = torch.tensor([8.0, 16.0, 2.0**20])


def pooled(net: Any) -> None:
    net.model[1].act = torch.nn.AdaptiveAvgPool2d((100_000, 100_000))


COLLISIONS = b"".join(
    b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N"
    for k in range(1, 30_001)
)
GROWING = b"(" + b"K\x01" * 20_000 + b"lq\x000"  # a list of 20,000
SETS = GROWING + b"cbuiltins\nset\nq\x010" + b"h\x01h\x00\x85R" * 2_000
CORPUS: dict[str, Make] = {
    # calls
    "os.system": touch("os", "system"),
    "posix.system": touch("posix", "system"),
    "nt.system": touch("nt", "system"),
    "subprocess": touch("subprocess", "getoutput"),
    "eval": touch("builtins", "eval", "open({!r}, 'w')"),
    "exec": touch("__builtin__", "exec", "open({!r}, 'w')"),
    "compile": touch("builtins", "compile"),
    "open": touch("io", "open", "{}"),
    "import": touch("builtins", "__import__", "os"),
    "importlib": touch("importlib", "import_module", "os"),
    "getattr chain": chain,
    "attrgetter": touch("operator", "attrgetter", "__class__"),
    "partial": touch("functools", "partial"),
    "pickle.loads": touch("pickle", "loads"),
    "marshal": touch("marshal", "loads"),
    "torch.load": touch("torch", "load", "{}"),
    "torch.hub": touch("torch.hub", "load"),
    "torch.jit": touch("torch.jit._script", "unpackage_script_module"),
    "numpy.load": touch("numpy", "load", "{}"),
    "numpy ctypes": touch("numpy.ctypeslib", "load_library"),
    "rmtree": touch("shutil", "rmtree", "{}"),
    "unlink": touch("os", "unlink", "{}"),
    "dotted": touch("torch.nn.modules.module", "os.system"),
    "private": touch("torch._utils", "_import_dotted_name", "os.system"),
    "package": touch("ultralytics.utils.downloads", "safe_download.os.system"),
    "inst": lambda file: archive(b"(" + text(f"touch {file.parent / CANARY}") + b"ios\nsystem\n.")(
        file
    ),
    "obj": lambda file: archive(
        b"(cos\nsystem\n" + text(f"touch {file.parent / CANARY}") + b"o" + STOP
    )(file),
    "legacy": lambda file: legacy(call("os", "system", f"touch {file.parent / CANARY}"))(file),
    # changes to what is not the file's own
    "build on a call": archive(b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("a") + b"Nsb."),
    "build on a class": archive(b"cmodels.common\nConv\n}" + text("path") + b"Nsb."),
    "build on a tensor": archive(tensor(1, (1,), (1,)) + b"(NNNNtb.", {"data/0": b"1234"}),
    "build on a storage": archive(storage(1) + b"}" + text("dtype") + b"Nsb.", {"data/0": b"1234"}),
    "item of a tensor": archive(
        tensor(1, (1,), (1,)) + whole(0) + whole(7) + b"s.", {"data/0": b"1234"}
    ),
    "append to a stub": archive(stub("models.common.Conv", b"") + b"Na."),
    # sizes
    "bytes of 2^62": archive(b"\x8e" + struct.pack("<Q", 2**62) + STOP),
    "bytes of 2^31": archive(b"B" + struct.pack("<I", 2**31 - 1) + STOP),
    "text of 2^62": archive(b"\x8d" + struct.pack("<Q", 2**62) + STOP),
    "array of 2^40": archive(b"\x96" + struct.pack("<Q", 2**40) + STOP),
    "frame of 2^60": archive(b"\x95" + struct.pack("<Q", 2**60) + STOP),
    "number of 2^31 bytes": archive(b"\x8b" + struct.pack("<i", 2**31 - 1) + STOP),
    "number of many digits": archive(b"I" + b"9" * 1_000_000 + b"\n" + STOP),
    "storage of 2^40": archive(storage(2**40) + STOP, {"data/0": b"1234"}),
    "storage of -1": archive(storage(-1) + STOP, {"data/0": b"1234"}),
    "storage that is not there": archive(storage(1, "7") + STOP, {"data/0": b"1234"}),
    "storage longer than its part": archive(tensor(1000, (1000,), (1,)) + STOP, {"data/0": b"12"}),
    "legacy storage of 2^40": legacy(storage(2**40, view=b"N") + STOP),
    "legacy storage of 2^33": legacy(storage(2**33, view=b"N") + STOP + b"\x80\x02]."),
    "legacy storage never filled": legacy(storage(1000, view=b"N") + STOP + b"\x80\x02]."),
    "legacy storage of another length": legacy(
        storage(2, view=b"N") + STOP,
        b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 1) + bytes(4),
    ),
    "legacy view beyond": legacy(
        storage(2, view=b"(" + text("v") + whole(1) + whole(9) + b"t") + STOP,
        b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 2) + bytes(8),
    ),
    "tensor beyond its storage": archive(tensor(1, (9,), (1,)) + STOP, {"data/0": b"1234"}),
    "legacy tensor beyond its storage": legacy(
        tensor(1, (2**30,), (1,), view=b"N") + STOP,
        b"\x80\x02]" + text("0") + b"a." + struct.pack("<q", 1) + bytes(4),
    ),
    "tensor behind its storage": archive(tensor(1, (1,), (1,), 1) + STOP, {"data/0": b"1234"}),
    "tensor of 2^64": archive(tensor(1, (2**62, 4), (0, 0)) + STOP, {"data/0": b"1234"}),
    "tensor of a negative size": archive(tensor(1, (-1,), (1,)) + STOP, {"data/0": b"1234"}),
    "tensor of a negative stride": archive(tensor(4, (4,), (-1,), 3) + STOP, {"data/0": bytes(16)}),
    "tensor of one number": archive(tensor(1, (2**36,), (0,)) + STOP, {"data/0": b"1234"}),
    "tensors that overlap": archive(
        b"(" + tensor(10**6, (10**6,), (1,)) * 100 + b"l.", {"data/0": bytes(4 * 10**6)}
    ),
    # archives
    "zip bomb": archive(
        storage(50_000_000) + STOP, {"data/0": bytes(200_000_000)}, zipfile.ZIP_DEFLATED
    ),
    "bz2 bomb": archive(storage(1) + STOP, {"data/0": bytes(10_000_000)}, zipfile.ZIP_BZIP2),
    "lzma": archive(storage(1) + STOP, {"data/0": os.urandom(4)}, zipfile.ZIP_LZMA),
    "many members": many_members,
    "overlapping parts": overlapping_parts,
    "two pickles": twice,
    "paths": paths,
    "zip in a zip": nested,
    "no pickle": archive(b""),
    # work without end
    "memo at 2^32": archive(b"Nr\xff\xff\xff\xff" + STOP),
    "memo at 10^18": archive(b"Np1000000000000000000\n" + STOP),
    "doubled lists": archive(doubled(b"]", b"(" + READ + READ + b"l") + STOP),
    "doubled names": archive(model(text("names") + doubled(b"]", b"(" + READ + READ + b"l"))),
    "doubled modules": archive(
        model(
            modules(
                text("model")
                + doubled(
                    stub(SEQUENTIAL, b""),
                    stub(SEQUENTIAL, modules(text("0") + READ + text("1") + READ)),
                )
            )
        )
    ),
    "doubled dtype": archive(
        b"cnumpy\ndtype\n(" + doubled(b"]", b"(" + READ + READ + b"l") + b"tR."
    ),
    "hash of doubled tuples": archive(b"}" + doubled(b")", READ + READ + b"\x86") + b"Ns."),
    "set of doubled tuples": archive(
        b"cbuiltins\nset\n(]" + doubled(b")", READ + READ + b"\x86") + b"atR."
    ),
    "frozen set of doubled tuples": archive(b"(" + doubled(b")", READ + READ + b"\x86") + b"\x91."),
    "colliding keys": archive(b"}(" + COLLISIONS + b"u."),
    "copied sets": archive(SETS + STOP),
    "copied arrays": archive(
        b"c_codecs\nencode\nq\x010"
        + text("a" * 1_000_000)
        + b"q\x000"
        + b"h\x01h\x00\x85R" * 2_000
        + b"."
    ),
    "steps": archive(b"N0" * 2_000_000 + STOP),
    "empty sets": archive(b"\x8f" * 2_000_000 + STOP),
    "names": archive(b"".join(f"cultralytics.a{i}\nB\n0".encode() for i in range(20_000)) + b"N."),
    "long name": archive(b"cultralytics.x\n" + b"a" * 1_000_000 + b"-\n."),
    # recursion
    "deep lists": archive(b"]" * 100_000 + b"a" * 99_999 + STOP),
    "deep tuples": archive(b")" + b"\x85" * 100_000 + STOP),
    "a list in itself": archive(b"]q\x00h\x00a."),
    "a model in itself": archive(
        b"}"
        + text("model")
        + b"cmodels.yolo\nModel\n)\x81q\x00}("
        + modules(text("model") + READ)
        + b"ubs."
    ),
    "deep modules": archive(
        model(
            modules(
                text("model")
                + doubled(stub(SEQUENTIAL, b""), stub(SEQUENTIAL, modules(text("0") + READ)), 5_000)
            )
        )
    ),
    # steps that nobody knows
    "unknown step": archive(b"\xc8" + STOP),
    "extension": archive(b"\x82\x01" + STOP),
    "buffer": archive(b"\x97" + STOP),
    "persistent text": archive(b"Pabc\n" + STOP),
    "no stop": archive(b"N" * 1000),
    "stack below zero": archive(b"0000."),
    "protocol 9": archive(b"\x80\x09N."),
    # networks
    "padding of 200,000": changed_model(widest),
    "enlarged 30,000 times": changed_model(enlarged),
    "stride of a million": changed_model(strided),
    "pool to 100,000": changed_model(pooled),
    "own: 10^10 weights": own(
        {"layers": [layer("Conv2d", in_channels=10**5, out_channels=10**5, kernel_size=[1, 1])]}
    ),
    "own: parameter of 10^10": own(
        {"layers": [{**layer("Detect"), "parameters": {"x": [10**5, 10**5]}}]}
    ),
    "own: repeated": own(
        {
            **{"nc": 1, "depth_multiple": 1e9, "width_multiple": 0.1, "anchors": [[1, 2]]},
            **{"backbone": [[-1, 9, "nn.SiLU", []]], "head": [[[-1], 1, "Detect", ["nc", "x"]]]},
        }
    ),
    "own: enlarged": own(
        {
            **{"nc": 1, "depth_multiple": 1, "width_multiple": 0.1, "anchors": [[1, 2]]},
            "backbone": [[-1, 1, "nn.Upsample", ["None", 30_000, "nearest"]]],
            "head": [[[-1], 1, "Detect", ["nc", "anchors"]]],
        }
    ),
    "own: method": own({"layers": [{**layer("Conv"), "attributes": {"forward": 1}}]}),
    "own: no family": own({}, family="os"),
    "own: deep": lambda file: torch.save(
        {"yoloq": 2, "meta": "[" * 100_000, "state_dict": {}}, file
    ),
}
