"""`python -m agmbench`."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]  # the working directory, where a file may have the name of a library

from agmbench.cli import main

main()
