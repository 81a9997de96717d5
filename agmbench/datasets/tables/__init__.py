"""The parts of data set `table`: its rows (`rows`), the kinds of its columns (`kinds`), its targets and splits, and what is inferred."""
