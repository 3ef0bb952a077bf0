"""`python -m diptych.compat.open_clip_train` and `torchrun -m diptych.compat.open_clip_train`."""

import os
import sys

if __name__ == "__main__":
    # Python put the current folder first: see `diptych.__main__`.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]

    from diptych.compat.open_clip_train.main import main

    main()
