"""Metrics: measures of outcomes, one a file."""
