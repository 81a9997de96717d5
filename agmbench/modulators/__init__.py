"""Modulators: one method a file."""
