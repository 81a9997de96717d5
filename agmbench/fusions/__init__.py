"""Fusions: from the features of all modalities to logits, one per file."""
