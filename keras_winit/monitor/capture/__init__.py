"""Reads tensors out of the training step while it runs."""
