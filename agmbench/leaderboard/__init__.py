"""Folders of results that others can verify: what is in them, how they are written, read and compared. No torch."""
