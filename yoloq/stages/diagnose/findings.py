"""From figures to findings: what is wrong, with which layer, and which command mends it.

Each rule reads the figures and returns findings. To add one: write a function, add it to `RULES`.
Thresholds were set between what healthy networks show (the official yolov5n on photographs and the
built-in detector, both with the default calibration of 128 images) and what planted faults do.
"""

from collections.abc import Callable
from dataclasses import dataclass

from yoloq.base.own_files import MAKE
from yoloq.measure.compare import LOW_SNR, first_below
from yoloq.stages.diagnose.figures import Figures, RangeFit

RANGE_LOSS = 6.0  # dB, one bit; healthy: at most 3.3, a range 20 times too wide: 20 and more
RANGE_SNR = 25.0  # dB; healthy inputs have 26 to 45, so what was lost did not matter there
MANY = 5  # ranges that are off in one way: more have one cause, the calibrator
REACH = 2.0  # healthy: 0.9 to 1.1, 0.7 after one calibration image, 0.3 after black ones
CONTRAST = 0.1  # of the deviation in the images measured on; constant images have none
FEW_IMAGES = 16  # below, some layers lost over 3 dB to ranges that other images exceed
OUTLIER_CHANNEL = 30.0  # healthy: at most 5 and 12
OUTLIERS = 20.0  # healthy: at most 4.2
NAMED = 4  # layers that a text lists

NOT_FINITE = "NaN or Inf"
CALIBRATION = "calibration images"
FEW = "few calibration images"
WIDE = "range too wide"
NARROW = "range too narrow"
WEIGHT_OUTLIER = "weight outlier channel"
ACTIVATION_OUTLIER = "activation outliers"
COARSE = "layer too coarse"
ACCUMULATED = "error accumulates"
DEAD = "dead channels"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `layer` is empty where it is no single layer's.

    `calibrator` is what a policy rule for the layer should name, where that helps.
    """

    layer: str
    kind: str
    text: str
    advice: str
    calibrator: str = ""


def not_finite(figures: Figures) -> list[Finding]:
    """NaN and Inf: the weights that hold them, else the first output that does."""
    found = [
        Finding(
            name,
            NOT_FINITE,
            f"{weight.bad} values of its weight are NaN or infinite",
            "take a checkpoint from before training diverged",
        )
        for name, weight in figures.weights.items()
        if weight.bad
    ]
    first = next((error for error in figures.errors if error.bad), None)
    if found or first is None:
        return found
    float_too = first.reference_bad > 0
    counts = f"{first.nan} NaN, {first.inf} infinite" if first.bad > first.reference_bad else ""
    where = f"in the float network already ({first.reference_bad} values)" if float_too else counts
    advice = (
        "its bias or input is broken: take another checkpoint"
        if float_too
        else ptq(f"--keep-float {short(first.layer)}")
    )
    return [Finding(first.layer, NOT_FINITE, f"first output that is not finite: {where}", advice)]


def calibration_images(figures: Figures) -> list[Finding]:
    """Images that do not look like those measured on, or are too few."""
    seen = figures.calibration
    if seen is None:
        return []
    more = ptq("--images 512")
    if seen.contrast < CONTRAST:
        text = f"they are (nearly) constant: {seen.contrast:.0%} of the contrast of val"
        return [Finding("", CALIBRATION, text, f"look at the images of `train`, then {MAKE} ptq")]
    if not 1 / REACH < seen.reach < REACH:
        text = f"half of the layers reach {seen.reach:.2f} times the values that val gives, or less"
        if seen.reach > 1:
            text = f"half of the layers reach {seen.reach:.2f} times the values of val, or more"
        advice = f"give `train` images like those of val; {more} if they are"
        return [Finding("", CALIBRATION, text, advice)]
    if seen.images < FEW_IMAGES:
        text = f"ranges rest on {seen.images}; other images exceed them"
        return [Finding("", FEW, text, more)]
    return []


def ranges(figures: Figures) -> list[Finding]:
    """Ranges that are off; many at once are one finding."""
    found = []
    for kind, wide in ((WIDE, True), (NARROW, False)):
        off = {
            name: fit
            for name, fit in figures.ranges.items()
            if is_off(fit) and (fit.amax > fit.best) == wide
        }
        worst = sorted(off, key=lambda name: -off[name].lost)
        if len(off) > MANY:
            found.append(_many(kind, worst, figures))
        else:
            found += [_range(kind, name, figures) for name in worst]
    return found


def is_off(fit: RangeFit) -> bool:
    """Whether a range costs a tensor a bit or more, and leaves it coarse, and is not meant to."""
    return not fit.meant and fit.lost >= RANGE_LOSS and fit.snr < RANGE_SNR


def _many(kind: str, worst: list[str], figures: Figures) -> Finding:
    fits = [figures.ranges[name] for name in worst]
    offers = [fit.calibrator for fit in fits]
    common = max(offers, key=offers.count)
    return Finding(
        fits[0].layers[0],
        kind,
        f"worst of {len(worst)} such ranges of {len(figures.ranges)}: {fits[0].lost:.0f} dB lost",
        f"another calibrator for all: {ptq(f'--calibrator {common}')}",
    )


def _range(kind: str, tensor: str, figures: Figures) -> Finding:
    fit, seen = figures.ranges[tensor], figures.activations[tensor]
    layer = fit.layers[0]
    option = f"--amax {short(layer)}={fit.suggested:.4g}"
    text = f"amax {fit.amax:.4g}, best {fit.best:.4g}: {fit.lost:.0f} dB lost, {fit.snr:.0f} left"
    if kind == WIDE:
        text += f"; {seen.codes_used:.0%} of the 256 codes are used"
    elif tensor in figures.local:
        text += f"; {figures.local[tensor].clipped:.0%} of its error is clipping"
    if others := fit.layers[1:]:
        text += f" (shared with {listed(others)})"
    advice = f"{ptq(option)} ({fit.calibrator}); try it first with {MAKE} diagnose"
    fits = fit.lost_calibration is not None and fit.lost_calibration < RANGE_LOSS / 2
    if kind == NARROW and fits:
        advice = f"it fits the calibration images: {ptq('--images 512')}, or {advice}"
    return Finding(layer, kind, text, advice, fit.calibrator)


def weight_outliers(figures: Figures) -> list[Finding]:
    """A channel of a quantized layer whose weights dwarf those of the others."""
    return [
        Finding(
            name,
            WEIGHT_OUTLIER,
            f"channel {weight.channel} is {weight.outlier:.0f} times the median channel",
            f"check the checkpoint; {ptq(f'--keep-float {short(name)}')}, or {MAKE} qat",
        )
        for name, weight in figures.weights.items()
        if weight.outlier > OUTLIER_CHANNEL and name in figures.local
    ]


def activation_outliers(figures: Figures) -> list[Finding]:
    """Quantized tensors whose largest values lie far beyond the rest."""
    return [
        Finding(
            fit.layers[0],
            ACTIVATION_OUTLIER,
            f"the largest input is {figures.activations[name].outliers:.0f} times what 99.9% "
            "stay below",
            f"{ptq(f'--keep-float {short(fit.layers[0])}')}, or the calibrator mse or percentile",
        )
        for name, fit in figures.ranges.items()
        if figures.activations[name].outliers > OUTLIERS
    ]


def coarse_layers(figures: Figures) -> list[Finding]:
    """Layers whose own error, on a float input, is too large although their range is right."""
    found = []
    off = (fit.layers for fit in figures.ranges.values() if is_off(fit) or fit.meant)
    explained = {layer for layers in off for layer in layers}
    for name, error in figures.local.items():
        if error.both < LOW_SNR and name not in explained:
            weights = error.weight < error.activation
            side, snr = ("weight", error.weight) if weights else ("input", error.activation)
            text = f"{error.both:.1f} dB by itself, mostly from its {side} ({snr:.1f} dB)"
            finer = "--weights-per channel --weight-bits 8" if weights else "--no-symmetric"
            advice = f"{ptq(f'--keep-float {short(name)}')}, or {finer}"
            found.append(Finding(name, COARSE, text, advice))
    return found


def accumulated(figures: Figures) -> list[Finding]:
    """An output that is bad although no layer is."""
    last = figures.errors[-1]
    if last.snr >= LOW_SNR or not figures.local:
        return []
    first = first_below(figures.errors)["snr"]
    worst = sorted(figures.local.values(), key=lambda error: error.both)[:NAMED]
    text = f"{last.snr:.1f} dB at {last.layer}, below {LOW_SNR:g} from {first} on; no single layer"
    names = listed([error.layer for error in worst])
    advice = f"{MAKE} sensitivity, then {MAKE} qat; coarsest by themselves: {names}"
    return [Finding("", ACCUMULATED, text, advice)]


def dead_channels(figures: Figures) -> list[Finding]:
    """Output channels whose weights are all zero."""
    return [
        Finding(
            name,
            DEAD,
            f"{len(weight.dead)} output channels have only zero weights",
            "none needed for int8; pruning them would make the network smaller",
        )
        for name, weight in figures.weights.items()
        if weight.dead
    ]


Rule = Callable[[Figures], list[Finding]]
RULES: tuple[Rule, ...] = (
    not_finite,
    calibration_images,
    weight_outliers,
    ranges,
    activation_outliers,
    coarse_layers,
    accumulated,
    dead_channels,
)
EXPLAINED: dict[str, set[str]] = {  # kind -> kinds that follow from it
    NOT_FINITE: {CALIBRATION, FEW, WIDE, NARROW, ACTIVATION_OUTLIER, COARSE, ACCUMULATED},
    CALIBRATION: {WIDE, NARROW, ACTIVATION_OUTLIER, COARSE, ACCUMULATED},
    **{kind: {ACCUMULATED} for kind in (WIDE, NARROW, WEIGHT_OUTLIER, ACTIVATION_OUTLIER, COARSE)},
}


def find(figures: Figures) -> list[Finding]:
    """All findings, causes before what they explain, which is left out."""
    found = [finding for rule in RULES for finding in rule(figures)]
    explained = {kind for finding in found for kind in EXPLAINED.get(finding.kind, ())}
    return [finding for finding in found if finding.kind not in explained]


def short(layer: str) -> str:
    """A convolution as a user names it: without the `.conv` of its block."""
    return layer.removesuffix(".conv")


def listed(names: "list[str] | tuple[str, ...]") -> str:
    """The first few names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def ptq(options: str) -> str:
    """The command that quantizes again with these options."""
    return f'{MAKE} ptq ARGS="{options}"'
