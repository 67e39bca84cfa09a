"""Everything about ONNX: export, Q/DQ, the lowering for each engine, FP16, lint."""
