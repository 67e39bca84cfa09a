"""Does an ONNX graph have Q/DQ where an engine wants them: `table.py` has the rules."""

TARGETS = ("tensorrt", "openvino", "onnxruntime")  # engines that have rules
