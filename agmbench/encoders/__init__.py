"""Encoders: from the input of one modality to features, one architecture per file."""
