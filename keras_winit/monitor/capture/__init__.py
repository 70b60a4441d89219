"""Captures tensors inside the training step and returns them with its result."""
