"""What `agmbench data` does: look at the data sets on this machine, verify one, prepare one from raw files, make a random sample."""
