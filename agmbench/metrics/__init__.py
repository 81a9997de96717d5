"""Metrics: pure functions of logits and targets, one a file."""
