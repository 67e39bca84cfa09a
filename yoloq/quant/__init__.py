"""Quantizers, calibrators and placement: the maths of yoloq, free of files and stages."""
