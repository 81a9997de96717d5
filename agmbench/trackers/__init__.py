"""Trackers: stores of runs behind the seam of `agmbench.records`."""
