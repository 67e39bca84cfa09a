"""The parts of a report: a picture or table is one file here and one row of `SECTIONS`."""

from yoloq.report.section import Part
from yoloq.report.sections.accuracy_latency import accuracy_latency
from yoloq.report.sections.error_line import error_line
from yoloq.report.sections.how_measured import how_measured
from yoloq.report.sections.image_pairs import image_pairs
from yoloq.report.sections.qat_curves import qat_curves
from yoloq.report.sections.range_histograms import range_histograms
from yoloq.report.sections.search_front import search_front
from yoloq.report.sections.sensitivity_bars import sensitivity_bars
from yoloq.report.sections.swap_table import swap_table
from yoloq.report.sections.to_repeat import to_repeat
from yoloq.report.sections.type_strip import type_strip

SECTIONS = (
    Part("latency", "Accuracy against latency", accuracy_latency),
    Part("images", "Images on which FP32 and INT8 differ most", image_pairs),
    Part("placement", "Placement", type_strip),
    Part("sensitivity", "Which layers hurt", sensitivity_bars),
    Part("search", "Placements that were tried", search_front),
    Part("errors", "Error along the network", error_line),
    Part("histograms", "Ranges of the worst layers", range_histograms),
    Part("qat", "Quantization-aware training", qat_curves),
    Part("swap", "Another activation in the place of SiLU", swap_table),
    Part("environment", "How it was measured", how_measured),
    Part("repeat", "To repeat it", to_repeat),
)
