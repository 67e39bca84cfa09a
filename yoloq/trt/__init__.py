"""TensorRT: building engines with 10.x and 11.x, and running them."""
