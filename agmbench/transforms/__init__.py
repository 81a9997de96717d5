"""Transforms: what becomes of training samples in each epoch, one per file."""
