"""Pages of the documentation that are made from the registry, the docstrings and the command line, as Markdown."""
