"""A modulator and a data set for agmbench, as a package of their own."""
