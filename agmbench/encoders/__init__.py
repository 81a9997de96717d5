"""Encoders: one modality's input to features, one architecture a file."""
