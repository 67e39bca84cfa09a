"""Quantization-aware training: quantizers that learn, the student, oscillation."""
