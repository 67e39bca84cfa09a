"""Weights of fewer than 8 bits in files of their real size: packed, and as INT4 in ONNX."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from yoloq.base.files import replace_when_whole
from yoloq.base.say import say, warn
from yoloq.data.loader import iterate
from yoloq.engines.source import Source
from yoloq.graph.int4 import BITS, to_int4
from yoloq.quant.packed_file import save_packed
from yoloq.stages.engine.gate import run_onnx
from yoloq.stages.run import Inputs

PACKED, INT4 = "model-packed{}.npz", "model-int4{}.onnx"
SUFFIXES = ("", "-qat")  # of the first int8 model of a run, and of a second one
WHOLE = 8  # bits of a weight that a byte holds
SAME = 1e-4  # of the largest number of a raw map: the order of float sums, and no more


@dataclass(frozen=True)
class FewBits:
    """Files by the key of an artifact, and what each takes in bytes by its name."""

    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


def write_few_bits(
    inputs: Inputs, sources: Mapping[str, Source], onnx_files: Mapping[str, str], threads: int
) -> FewBits:
    """Pack each int8 model that has weights of fewer than 8 bits; files of earlier ones go.

    An INT4 file that does not compute what its int8 file does is not kept: a warning says so.

    Args:
        sources: by the stage that made the int8 model, in the order of `write_onnx`.
        onnx_files: names by key, as `write_onnx` gave them.
        threads: of ONNX Runtime.
    """
    folder, made = inputs.config.folder, FewBits()
    for suffix in SUFFIXES:
        for name in (PACKED, INT4):
            (folder / name.format(suffix)).unlink(missing_ok=True)
    for source, suffix in zip(sources.values(), SUFFIXES, strict=False):
        packed, small = PACKED.format(suffix), INT4.format(suffix)
        fewest = fewest_bits(source)
        if fewest < WHOLE:
            save_packed(folder / packed, source.quantized)
            made.files[f"packed{suffix}"] = packed
        whole = onnx_files.get(f"onnx-int8{suffix}")
        if fewest <= BITS and whole and _written(inputs, folder / whole, folder / small, threads):
            made.files[f"onnx-int4{suffix}"] = small
    made.sizes.update({n: (folder / n).stat().st_size for n in made.files.values()})
    if made.sizes:
        text = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in made.sizes.items())
        say(f"weights of few bits, packed: {text}")
    return made


def fewest_bits(source: Source) -> int:
    """The least bits that a weight has."""
    plans = source.quantized.placement.layers.values()
    return min((plan.weight.bits for plan in plans if plan.weight), default=WHOLE)


def _written(inputs: Inputs, whole: Path, small: Path, threads: int) -> bool:
    """Write an INT4 file and hold it against its int8 file on an image; False: it is not kept.

    Both compute in float with the same weights.
    """
    with replace_when_whole(small) as temporary:
        onnx.save(to_int4(onnx.load(whole)), temporary)
    [batch] = iterate(inputs.images[:1], inputs.imgsz, 1)
    raws = [run_onnx(file, batch.images, threads) for file in (whole, small)]
    apart = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(*raws, strict=True))
    if apart <= SAME:
        return True
    small.unlink()
    warn(
        f"{small.name}: its raw maps are not those of {whole.name} (off by {apart:.1%}), it is not "
        "kept: this version of ONNX Runtime reads INT4 wrongly, try another"
    )
    return False
