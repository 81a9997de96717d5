"""Modulators: one method per file."""
