"""What `make reliability` kills: each stage, with options that keep it to seconds."""

import signal
from dataclasses import dataclass

SIGNALS = (signal.SIGKILL, signal.SIGINT)


@dataclass(frozen=True)
class Case:
    """A stage with its options, in which `{pictures}` is a folder of images.

    `after` are the cases that are finished before it begins; `chosen` names the parts of its result
    that follow from times, as patterns.
    """

    stage: str
    flags: tuple[str, ...] = ()
    after: tuple[str, ...] = ("baseline", "ptq")
    chosen: tuple[str, ...] = ()
    signals: tuple[signal.Signals, ...] = SIGNALS


QUICK = ("--epochs", "2", "--epoch-images", "4", "--batch-size", "2")
ONCE = ("--runs", "1")
BUILT = ("baseline", "ptq", "engine-onnxruntime")
NETWORKS = (  # both activations, both widths of weights: each is tried, whatever times say
    *("--widths", "0.125", "--depths", "0.33", "--activations", "silu", "relu", "--bits", "8", "4"),
    *("--trials", "4", "--epochs", "2", "--batch-size", "3", "--score-imgsz", "32"),
)
FRONT = (  # of networks by time and accuracy
    *("nas-*.pt", "nas.jsonl", "nas.md", "nas.png", "w0.*", "of_weights", "front", "size_front"),
    *("chosen", "checkpoint", "rank_correlation", "table", "verdict"),
)
CASES = {
    "baseline": Case("baseline", after=()),
    "ptq": Case("ptq", ("--images", "6"), after=()),
    "train": Case("train", ("--epochs", "3", "--batch-size", "2"), after=()),
    "sensitivity": Case("sensitivity", ("--runs", "0", "--top", "0", "--screen", "4")),
    "diagnose": Case("diagnose"),
    "search": Case(
        "search",
        (
            *("--engine", "torch", "--trials", "4", "--screen", "4"),
            *("--bits", "4,8,16", "--budget", "size=300kB"),
        ),
    ),
    "qat": Case("qat", QUICK),
    "swap": Case("swap", ("--engine", "torch", *ONCE, *QUICK)),
    "codebook": Case("codebook"),
    "nas": Case("nas", ("--engine", "onnxruntime", *ONCE, *NETWORKS), (), FRONT),
    "engine-openvino": Case("engine", ("--engine", "openvino", *ONCE)),
    "engine-onnxruntime": Case("engine", ("--engine", "onnxruntime", *ONCE)),
    "engine-litert": Case("engine", ("--engine", "litert", *ONCE)),
    "table": Case("table", ("--engine", "onnxruntime", *ONCE)),
    "auto": Case(
        "auto", ("--engine", "torch", "--measure", "fidelity", "--max-drop", "0.9"), after=()
    ),
    "demo": Case("demo", ("--images", "6", *ONCE), after=()),
    "benchmark": Case(
        "benchmark",
        ("--engine", "onnxruntime", "--batches", "1", "--streams", "1", *ONCE),
        BUILT,
        ("key", "notes", "benchmark.md", "benchmark.csv"),
    ),
    "predict": Case(  # Ctrl-C does not undo it: what was seen by then is written
        "predict",
        ("--source", "{pictures}", "--compare"),
        BUILT,
        signals=(signal.SIGKILL,),
    ),
}
