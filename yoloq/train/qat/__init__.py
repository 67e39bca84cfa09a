"""Quantization-aware training: quantizers that learn, teacher, student, objective."""
