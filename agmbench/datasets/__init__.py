"""Data sets, one per file, named as in registry.yaml."""
