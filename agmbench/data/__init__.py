"""The work of `agmbench data`: find the data sets on this machine, verify, describe and download them."""
