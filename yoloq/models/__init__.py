"""Model families: a file or folder each with the functions of `family.Family`, and a row here."""

FAMILIES = {  # name -> module; imported when used
    "yolov5": "yoloq.models.yolov5",
    "ultralytics": "yoloq.models.ultralytics",
}
SWAPS = {"hardswish": "Hardswish", "relu": "ReLU"}  # what `make swap` puts for SiLU -> its class
