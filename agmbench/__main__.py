"""`python -m agmbench`."""

from agmbench.cli import main

main()
