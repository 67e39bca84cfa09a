"""Bad inputs of every stage: exit code 2, one line that names the thing and the remedy, no trace.

Nothing half-written is left: a run folder is afterwards what it was before.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_set import TinySet

from yoloq.__main__ import STAGES, main

pytestmark = pytest.mark.usefixtures("one_thread")

REMEDIES = (
    "; ",
    "must be",
    "--help",
    "not one of",
    "want ",
    "use ",
    "make ",
    "choose",
    ": is for",
    "must ",
    "expected ",
)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@dataclass
class Place:
    """Where an input is bad: a copy of the tiny set, and of the run where it is needed."""

    tiny: TinySet
    folder: Path
    ready: Path

    @property
    def project(self) -> Path:
        return self.folder / "runs"

    @property
    def run(self) -> Path:
        """The finished run, which may be changed."""
        if not (self.project / "run").exists():
            shutil.copytree(self.ready / "run", self.project / "run")
        return self.project / "run"

    def file(self, name: str, content: str | bytes = "") -> str:
        """Write a file."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    def yaml(self, text: str = "", **entries: Any) -> list[str]:
        """A data yaml with other entries, or another text."""
        document = yaml.safe_load(self.tiny.data.read_text()) | entries
        kept = {name: value for name, value in document.items() if value is not None}
        return ["--data", self.file("other.yaml", text or yaml.safe_dump(kept))]

    def labels(self, *rows: str | bytes) -> list[str]:
        """A copy of the set whose first val label file is another."""
        root = self.folder / "set"
        shutil.copytree(self.tiny.data.parent, root)
        content = b"\n".join(r if isinstance(r, bytes) else r.encode() for r in rows)
        (root / "labels" / "val" / "0.txt").write_bytes(content)
        return self.yaml(path=str(root))

    def coco(self, **changes: Any) -> list[str]:
        """A COCO json of the val images."""
        images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(6)]
        box = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 1, 9, 9]}
        categories = [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}]
        document = {"images": images, "annotations": [box], "categories": categories, **changes}
        file = self.file("val.json", json.dumps(document))
        return self.yaml(annotations={"val": file})

    def policy(self, content: Any) -> list[str]:
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        return ["--policy", self.file("policy.json", text)]

    def result(self, stage: str, **changes: Any) -> list[str]:
        """The finished run with another result of a stage."""
        file = self.run / f"{stage}.json"
        data = json.loads(file.read_text()) | changes
        file.write_text(json.dumps(data))
        return ["--name", "run"]

    def damage(self, name: str, content: bytes) -> list[str]:
        """The finished run with another file, whose hash is said to be right."""
        import hashlib

        (self.run / name).write_bytes(content)
        file = self.run / "engine-onnxruntime.json"
        data = json.loads(file.read_text())
        data["hashes"][name] = hashlib.sha256(content).hexdigest()
        file.write_text(json.dumps(data))
        return ["--name", "run"]


Flags = Callable[[Place], list[str]]


def plain(*flags: str) -> Flags:
    return lambda place: list(flags)


def rule(**changes: Any) -> dict[str, Any]:
    return {"rules": [{"pattern": "*", "weight": {}, "activation": {}, **changes}]}


NESTED = "[" * 100_000
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 9)}]}}\n"
    for i in range(12)
)
ENGINE = "engine-onnxruntime"
SHOWN = {"predict": ["--source", "photo.jpg"]}
FLAGS: dict[str, tuple[str, str, str]] = {
    # flags of all stages
    "unknown flag": ("ptq", "--calibrate max", "--calibrate"),
    "half a flag": ("ptq", "--calib max", "--calib"),
    "no number": ("baseline", "--batch-size many", "--batch-size"),
    "no batch": ("baseline", "--batch-size 0", "--batch-size 0"),
    "negative workers": ("baseline", "--workers -1", "--workers -1"),
    "negative limit": ("ptq", "--limit -1", "--limit -1"),
    "seed": ("ptq", "--seed -1", "--seed -1"),
    "large seed": ("ptq", "--seed 4294967296", "--seed 4294967296"),
    "imgsz of two": ("ptq", "--imgsz 640 320", "--imgsz 640 320"),
    "imgsz of words": ("ptq", "--imgsz large", "--imgsz large"),
    "imgsz of 65536": ("ptq", "--imgsz 65536", "--imgsz 65536"),
    "imgsz of 33": ("baseline", "--imgsz 33", "--imgsz 33"),
    "name above": ("ptq", "--name ../up", "--name ../up"),
    "name of the root": ("ptq", "--name /root", "--name /root"),
    "device": ("baseline", "--device cpuu", "cpuu"),
    "gpu": ("baseline", "--device 99", "cuda:99"),
    "no value": ("ptq", "--data", "--data"),
    "stray word": ("ptq", "images", "images"),
    "variable": ("ptq", "WIGHTS=a.pt", "--wights"),
    # of one stage
    "calibrator": ("ptq", "--calibrator median", "--calibrator"),
    "images": ("ptq", "--images -1", "--images -1"),
    "weight bits": ("ptq", "--weight-bits 1", "--weight-bits"),
    "refine": ("ptq", "--refine magic", "--refine"),
    "refine through SiLU": ("ptq", "--refine equalize", "silu behind model.0.conv"),
    "keep float": ("ptq", "--keep-float model.99", "model.99"),
    "amax": ("ptq", "--amax model.0", "--amax"),
    "amax of nothing": ("ptq", "--amax model.0.conf=1", "model.0.conf"),
    "amax below zero": ("ptq", "--amax model.0.conv=-1", "--amax"),
    "amax of nan": ("ptq", "--amax model.0.conv=nan", "--amax"),
    "engine": ("engine", "--engine openvino2", "openvino2"),
    "precision": ("engine", "--engine onnxruntime --precisions int7", "int7"),
    "threads": ("engine", "--threads -1", "--threads -1"),
    "streams": ("engine", "--threads 1 --streams 9", "--streams 9"),
    "runs": ("engine", "--runs 0", "--runs 0"),
    "gate": ("engine", "--gate -1", "--gate -1"),
    "workspace": ("engine", "--engine onnxruntime --dla 0", "--dla"),
    "epochs": ("train", "--epochs 0", "--epochs 0"),
    "lr": ("train", "--lr 0", "--lr 0"),
    "lr of nan": ("train", "--lr nan", "--lr nan"),
    "mosaic": ("train", "--mosaic 2", "--mosaic 2"),
    "multi scale": ("train", "--multi-scale 2 1", "--multi-scale"),
    "size": ("train", "--size q", "--size"),
    "grain": ("sensitivity", "--grain layer", "--grain"),
    "mode": ("sensitivity", "--mode all", "--mode"),
    "max drop": ("sensitivity", "--max-drop 2", "--max-drop 2"),
    "max float": ("sensitivity", "--max-float 0", "--max-float"),
    "memory": ("sensitivity", "--memory -1", "--memory"),
    "trials": ("search", "--trials 1", "--trials 1"),
    "bits without budget": ("search", "--bits 4,8", "--bits"),
    "budget without bits": ("search", "--budget size=1MB", "--budget"),
    "budget": ("search", "--bits 4,8 --budget size=large", "--budget"),
    "bits": ("search", "--bits 99 --budget size=1MB", "--bits"),
    "two aims": ("search", "--max-drop 0.1 --max-latency 3", "--max-latency"),
    "calibrators": ("search", "--calibrators median", "--calibrators"),
    "qat amp": ("qat", "--amp on", "--amp on"),
    "qat labels": ("qat", "--labels teacher", "--labels teacher"),
    "qat statistics": ("qat", "--bn-reestimate 3", "--bn-reestimate"),
    "qat dampen": ("qat", "--dampen -1", "--dampen"),
    "qat schedule": ("qat", "--schedule never", "--schedule"),
    "qat teacher": ("qat", "--teacher none.pt", "none.pt"),
    "qat policy": ("qat", "--policy none.json", "none.json"),
    "qat images": ("qat", "--epoch-images few", "--epoch-images"),
    "swap": ("swap", "--activation gelu2", "--activation"),
    "swap layers": ("swap", "--layers auto model.1", "--layers"),
    "swap share": ("swap", "--share 0", "--share"),
    "codebook bits": ("codebook", "--bits 99", "--bits 99"),
    "codebook dim": ("codebook", "--dim 2", "--dim 2"),
    "codebook edge": ("codebook", "--edge-bits 0", "--edge-bits 0"),
    "nas widths": ("nas", "--widths 0", "--widths"),
    "nas bits": ("nas", "--bits 16", "--bits 16"),
    "nas engine": ("nas", "--engine torch", "--engine torch"),
    "against": ("diagnose", "--against openvino-int8", "--against"),
    "diagnose images": ("diagnose", "--images 0", "--images 0"),
    "table of": ("table", "--of none", "--of"),
    "auto drop": ("auto", "--max-drop 0", "--max-drop 0"),
    "report runs": ("report", "--runs nowhere", "nowhere"),
    "report of nothing": ("report", "--name nothing", "nothing"),
    "gpu part": ("gpu_check", "--parts gpu-magic", "gpu-magic"),
    "no source": ("predict", "", "--source"),
    "conf": ("predict", "--source a.jpg --conf 1", "--conf 1"),
    "source gone": ("predict", "--source gone.jpg", "holds no engine"),
    "benchmark of nothing": ("benchmark", "--name nothing", "nothing"),
    "benchmark batches": ("benchmark", "--batches 0", "--batches"),
    "no onnx": ("lint_onnx", "", "no ONNX file"),
    "onnx gone": ("lint_onnx", "--onnx gone.onnx", "gone.onnx"),
    "target": ("lint_onnx", "--onnx a.onnx --target trt", "--target"),
    "demo flag": ("demo", "--limit -1", "--limit -1"),
    "data device": ("data", "--device", "--device"),
}
FILES: dict[str, tuple[str, Flags, str]] = {
    # checkpoints
    "no weights": ("ptq", plain("--weights", "none.pt"), "none.pt"),
    "weights folder": ("ptq", lambda p: ["--weights", str(p.folder)], "a folder"),
    "weights text": ("ptq", lambda p: ["--weights", p.file("a.pt", "hello")], "a.pt"),
    "weights yaml": ("ptq", lambda p: ["--weights", str(p.tiny.data)], "tiny.yaml"),
    "weights onnx": ("ptq", lambda p: ["--weights", str(p.run / "model-fp32.onnx")], "fp32.onnx"),
    "weights pointer": (
        "ptq",
        lambda p: ["--weights", p.file("a.pt", "version https://git-lfs.github.com/spec/v1\n")],
        "git lfs pull",
    ),
    "weights cut": (
        "ptq",
        lambda p: ["--weights", p.file("a.pt", p.tiny.weights.read_bytes()[:-500])],
        "a.pt",
    ),
    "weights of one wrong byte": (
        "ptq",
        lambda p: ["--weights", p.file("a.pt", flipped(p.tiny.weights.read_bytes()))],
        "Bad CRC-32",
    ),
    "teacher of other classes": (
        "qat",
        lambda p: ["--teacher", p.file("t.pt", b"PK\x03\x04")],
        "t.pt",
    ),
    # the data yaml
    "no yaml": ("baseline", plain("--data", "none.yaml"), "none.yaml"),
    "yaml folder": ("baseline", lambda p: ["--data", str(p.folder)], "cannot be read"),
    "yaml binary": ("baseline", lambda p: ["--data", p.file("a.yaml", b"\xff\xfe\x00")], "UTF-8"),
    "yaml broken": ("baseline", lambda p: p.yaml("val: [a\nnames: {"), "is not a yaml file"),
    "yaml of a list": ("baseline", lambda p: p.yaml("- a\n- b\n"), "is not a data set yaml"),
    "yaml nested": ("baseline", lambda p: p.yaml(NESTED), "is not a yaml file"),
    "yaml tag": ("baseline", lambda p: p.yaml("val: !!python/object/apply:os.system [ls]"), "tag"),
    "yaml name tag": ("baseline", lambda p: p.yaml("val: !!python/name:os.system"), "tag"),
    "yaml laughs": ("baseline", lambda p: p.yaml(f"{LAUGHS}val: b\nnames: *y"), "aliases"),
    "yaml merges": ("baseline", lambda p: p.yaml(f"{MERGES}val: b"), "merges"),
    "yaml circle": ("baseline", lambda p: p.yaml("val: x\nnames: &a [*a]"), "which is no name"),
    "no names": ("baseline", lambda p: p.yaml(names=None), "`names`"),
    "names of a number": ("baseline", lambda p: p.yaml(names=3), "`names`"),
    "names twice": ("baseline", lambda p: p.yaml(names=["a", "a"]), "twice"),
    "names with holes": ("baseline", lambda p: p.yaml(names={0: "a", 2: "b"}), "keys of `names`"),
    "nc": ("baseline", lambda p: p.yaml(nc=3), "nc is 3"),
    "nc of 10^11": ("baseline", lambda p: p.yaml(names=None, nc=10**11), "nc is beyond"),
    "more names": ("baseline", lambda p: p.yaml(names=["a", "b", "c"]), "has 3 classes"),
    "no val": ("baseline", lambda p: p.yaml(val=None), "`val`"),
    "val gone": ("baseline", lambda p: p.yaml(val="images/gone"), "gone"),
    "val of a number": ("baseline", lambda p: p.yaml(val=5), "`val`"),
    "val of nothing": ("baseline", lambda p: p.yaml(val=str(p.folder)), "holds no images"),
    "val of a list gone": ("baseline", lambda p: p.yaml(val=["images/val", "x"]), "x does not"),
    "path of a list": ("baseline", lambda p: p.yaml(path=["a"]), "`path`"),
    "path with an escape": ("baseline", lambda p: p.yaml(path="a\tb"), "control character"),
    "imgsz of the yaml": ("baseline", lambda p: p.yaml(imgsz=100), "imgsz 100"),
    "imgsz of the yaml, huge": ("baseline", lambda p: p.yaml(imgsz=64_000), "imgsz 64000"),
    "imgsz of the yaml, text": ("baseline", lambda p: p.yaml(imgsz="big"), "imgsz: big"),
    "generate": ("baseline", lambda p: p.yaml(generate="magic"), "generate: magic"),
    "key points": ("baseline", lambda p: p.yaml(kpt_shape=[17, 3]), "kpt_shape"),
    "no train": ("ptq", lambda p: p.yaml(train=None), "`train`"),
    "train in val": ("ptq", lambda p: p.yaml(train="images/val"), "every image of `train`"),
    # labels
    "label of class 9": ("baseline", lambda p: p.labels("9 0.5 0.5 0.1 0.1"), "class 9"),
    "annotations gone": ("baseline", lambda p: p.yaml(annotations={"val": "x.json"}), "x.json"),
    "annotations text": (
        "baseline",
        lambda p: p.yaml(annotations={"val": p.file("x.json", "{")}),
        "is not a json file",
    ),
    "annotations nested": (
        "baseline",
        lambda p: p.yaml(annotations={"val": p.file("x.json", NESTED)}),
        "is not a json file",
    ),
    "annotations of a list": ("baseline", lambda p: p.yaml(annotations=["x"]), "`annotations`"),
    "coco without images": ("baseline", lambda p: p.coco(images=None), "`images`"),
    "coco image without an id": ("baseline", lambda p: p.coco(images=[{}]), "no usable `id`"),
    "coco of other images": (
        "baseline",
        lambda p: p.coco(images=[{"id": 0, "file_name": "x.png"}]),
        "lists none of the images",
    ),
    "coco categories": ("baseline", lambda p: p.coco(categories=[5]), "entry 0 of `categories`"),
    # policies and journals
    "no policy": ("ptq", plain("--policy", "none.json"), "none.json"),
    "policy text": ("ptq", lambda p: p.policy("hello"), "policy.json"),
    "policy nested": ("ptq", lambda p: p.policy(NESTED), "policy.json"),
    "policy binary": ("ptq", lambda p: p.policy(b"\xff\x00"), "policy.json"),
    "policy of a list": ("ptq", lambda p: p.policy([1]), "policy.json: not a policy"),
    "policy of a word": ("ptq", lambda p: p.policy('"a"'), "policy.json: not a policy"),
    "policy without rules": ("ptq", lambda p: p.policy({}), "policy.json: not a policy"),
    "policy key": ("ptq", lambda p: p.policy({**rule(), "x": 1}), "policy.json: not a policy"),
    "policy bits": ("ptq", lambda p: p.policy(rule(weight={"bits": 99})), "policy.json"),
    "policy bits of text": ("ptq", lambda p: p.policy(rule(weight={"bits": "x"})), "policy.json"),
    "policy sharing": ("ptq", lambda p: p.policy({**rule(), "sharing": "x"}), "sharing"),
    "policy calibrator": ("ptq", lambda p: p.policy(rule(calibrator="x")), "calibrator"),
    "policy pattern": ("ptq", lambda p: p.policy(rule(pattern="model.99")), "model.99"),
    "journal text": (
        "sensitivity",
        lambda p: journal(p, "hello\n"),
        "sensitivity.jsonl: is no journal",
    ),
    "journal nested": (
        "sensitivity",
        lambda p: journal(p, f"{NESTED}\n"),
        "sensitivity.jsonl: is no journal",
    ),
    "journal of another": (
        "sensitivity",
        lambda p: journal(p, '{"subject": {}}\n'),
        "sensitivity.jsonl: is a journal of other",
    ),
    "journal line": (
        "sensitivity",
        lambda p: journal(p, '{"subject": {}}\n{"part": "magic"}\n'),
        "sensitivity.jsonl: is no journal",
    ),
    # the run folder
    "project is a file": ("baseline", lambda p: ["--project", p.file("runs")], "runs"),
    "run is a file": (
        "baseline",
        lambda p: ["--project", str(Path(p.file("x/run")).parent)],
        "run",
    ),
    # images
    "images are text": ("baseline", lambda p: pictures(p, b"no picture"), "cannot be read"),
    "images are empty": ("baseline", lambda p: pictures(p, b""), "cannot be read"),
    "images are cut": ("baseline", lambda p: pictures(p, jpeg()[:200]), "cannot be read"),
    "images too large": ("baseline", lambda p: pictures(p, huge()), "million pixels"),
    # ONNX files
    "onnx text": ("lint_onnx", lambda p: ["--onnx", p.file("a.onnx", "hello")], "is no ONNX file"),
    "onnx checkpoint": ("lint_onnx", lambda p: ["--onnx", str(p.tiny.weights)], "is no ONNX file"),
    "onnx folder": ("lint_onnx", lambda p: ["--onnx", str(p.folder)], "irectory"),
}
RUNS: dict[str, tuple[str, Flags, str]] = {
    "forged stage": ("predict", lambda p: p.result(ENGINE, schema=9), "schema 9"),
    "forged artifacts": (
        "predict",
        lambda p: p.result(ENGINE, artifacts={"int8": "../../evil.onnx"}),
        "is not in its folder",
    ),
    "forged absolute artifact": (
        "predict",
        lambda p: p.result(ENGINE, artifacts={"int8": "/etc/passwd"}),
        "is not in its folder",
    ),
    "forged rows": ("predict", lambda p: p.result(ENGINE, rows=[{}]), "not a result"),
    "forged row": (
        "predict",
        lambda p: p.result(ENGINE, rows=[{"name": 1, "precision": [], "engine": {}}]),
        "not a result",
    ),
    "forged environment": ("predict", lambda p: p.result(ENGINE, environment=[]), "not a result"),
    "forged notes": ("predict", lambda p: p.result(ENGINE, notes=None), "not a result"),
    "forged hashes": ("predict", lambda p: p.result(ENGINE, hashes={}), "missing or was changed"),
    "result text": ("predict", lambda p: broken(p, f"{ENGINE}.json", b"hello"), "not a result"),
    "result nested": (
        "predict",
        lambda p: broken(p, f"{ENGINE}.json", NESTED.encode()),
        "not a result",
    ),
    "engine changed": (
        "predict",
        lambda p: broken(p, "onnxruntime-int8.onnx", b"x"),
        "onnxruntime-int8.onnx: is missing or was changed",
    ),
    "engine replaced": (
        "predict",
        lambda p: p.damage("onnxruntime-int8.onnx", b"x"),
        "onnxruntime-int8.onnx: ONNX Runtime cannot open it",
    ),
    "engine without its model": (
        "predict",
        lambda p: p.damage("onnxruntime-int8.onnx", about(p, None)),
        "what it says of its model is damaged",
    ),
    "engine with a forged model": (
        "predict",
        lambda p: p.damage("onnxruntime-int8.onnx", about(p, '{"head": {"kind": "os"}}')),
        "what it says of its model is damaged",
    ),
    "engine with a forged size": (
        "predict",
        lambda p: p.damage("onnxruntime-int8.onnx", sized(p, 2**31)),
        "what it says of its model is damaged",
    ),
    "precision": ("predict", lambda p: ["--precision", str(p.run)[:4]], "--precision"),
    "another engine": ("predict", lambda p: [*p.result(ENGINE), "--engine", "torch"], "no torch"),
    "benchmark replaced": (
        "benchmark",
        lambda p: [*p.damage("onnxruntime-fp32.onnx", b"x"), "--engine", "onnxruntime"],
        "onnxruntime-fp32.onnx: ONNX Runtime cannot open it",
    ),
    "report of a damaged result": (
        "report",
        lambda p: broken(p, "ptq.json", b"{}"),
        "ptq.json: not a result",
    ),
}


def flipped(content: bytes) -> bytes:
    """One bit of a weight changed."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def journal(place: Place, text: str) -> list[str]:
    (place.run / "sensitivity.jsonl").write_text(text)
    return ["--engine", "onnxruntime"]


def broken(place: Place, name: str, content: bytes) -> list[str]:
    (place.run / name).write_bytes(content)
    return []


def about(place: Place, text: str | None) -> bytes:
    """The engine with another description of its model."""
    import onnx

    model = onnx.load(place.run / "onnxruntime-int8.onnx")
    del model.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(model, {"yoloq": text})
    return bytes(model.SerializeToString())


def sized(place: Place, imgsz: int) -> bytes:
    import onnx

    model = onnx.load(place.run / "onnxruntime-int8.onnx")
    [text] = [entry.value for entry in model.metadata_props if entry.key == "yoloq"]
    return about(place, json.dumps(json.loads(text) | {"imgsz": imgsz}))


def pictures(place: Place, content: bytes) -> list[str]:
    """A copy of the set whose val images are all another file."""
    root = place.folder / "set"
    shutil.copytree(place.tiny.data.parent, root)
    for file in (root / "images" / "val").iterdir():
        file.write_bytes(content)
    return place.yaml(path=str(root))


def jpeg() -> bytes:
    import cv2

    return bytes(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1])


def huge() -> bytes:
    """The header of a PNG of 400 million pixels, and hardly a pixel of it."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def assert_refused(
    stage: str, flags: list[str], text: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(project) if project.is_dir() else {}
    capsys.readouterr()
    assert main(stage, flags) == 2
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, printed.err
    assert text in errors[0]
    assert "Traceback" not in printed.err + printed.out
    assert any(remedy in errors[0] for remedy in REMEDIES), errors[0]
    assert len(errors[0]) < 1000
    assert (contents(project) if project.is_dir() else {}) == before


@pytest.mark.parametrize("case", FLAGS)
def test_bad_flags(
    case: str, tiny: TinySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, flags, text = FLAGS[case]
    project = tmp_path / "runs"
    common = ["--project", str(project)]
    if stage not in ("lint_onnx", "predict", "benchmark", "demo", "gpu_check"):
        common = tiny.flags(project)
    elif stage == "lint_onnx":
        common = []
    assert_refused(stage, [*common, *flags.split()], text, project, capsys)


@pytest.mark.parametrize("case", FILES)
def test_bad_files(
    case: str, tiny: TinySet, ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, make, text = FILES[case]
    place = Place(tiny, tmp_path, ready)
    flags = make(place)
    common = [] if stage == "lint_onnx" else tiny.flags(place.project)
    assert_refused(stage, [*common, *flags], text, place.project, capsys)


@pytest.mark.parametrize("case", RUNS)
def test_bad_run_folders(
    case: str, tiny: TinySet, ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, make, text = RUNS[case]
    place = Place(tiny, tmp_path, ready)
    place.file("photo.jpg", jpeg())
    flags = ["--project", str(place.project), "--name", "run", "--device", "cpu"]
    shown = ["--source", str(tmp_path / "photo.jpg")] if stage == "predict" else []
    assert_refused(stage, [*flags, *shown, *make(place)], text, place.project, capsys)


def test_all_stages_have_bad_inputs() -> None:
    cases = [*FLAGS.values(), *FILES.values(), *RUNS.values()]
    assert {stage for stage, *_ in cases} == set(STAGES)
    assert len(cases) >= 150


def test_debug_gives_the_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--weights", str(tmp_path / "none.pt"), "--project", str(tmp_path), "--debug"]
    assert main("baseline", flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith(f"error: {tmp_path / 'none.pt'}: no such file")
