"""What data set `table` is made of: a file of rows (`rows`), what its columns hold (`kinds`), targets, splits, and what is inferred."""
