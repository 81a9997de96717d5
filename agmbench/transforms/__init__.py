"""Transforms: changes of samples, such as crops or noise, one per file."""
