"""Metrics: measures of outcomes, one per file."""
