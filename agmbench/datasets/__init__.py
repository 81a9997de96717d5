"""Data sets: one a file, named as in registry.yaml."""
