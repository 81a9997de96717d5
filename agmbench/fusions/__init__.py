"""Fusions: features of all modalities to logits, one a file."""
