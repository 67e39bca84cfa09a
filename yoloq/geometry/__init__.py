"""Boxes: letterbox, IoU, non-maximum suppression, and detections as flat arrays."""
