"""`python -m diptych` and `torchrun -m diptych`."""

import os
import sys

# Python put the current folder first. What was downloaded there must not run in place of what is
# installed; where a module of it is named, `main` adds it, last.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]

from diptych.cli import main

main()
