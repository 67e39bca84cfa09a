"""`make lint-onnx`."""
