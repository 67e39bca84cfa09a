"""Predicates on ONNX graphs, by what they look at; `yoloq.lint` has the table of them."""
