"""Folders of results that others can verify: what they contain, and how they are written, read and compared. Torch is not imported."""
