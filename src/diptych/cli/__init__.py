"""The command line: `diptych VERB ...`. One file per verb; only the one that is called is
imported."""

import importlib
import os
import sys
from collections.abc import Sequence

from diptych.errors import DiptychError, UnknownNameError
from diptych.version import __version__

__all__ = ["VERBS", "main"]

VERBS = {
    "demo": "train on real handwriting, evaluate, search, write a report: minutes on a CPU",
    "train": "train a recipe, or resume a run",
    "evaluate": "zero-shot accuracy or retrieval on a folder, a table or shards",
    "classify": "which of some names fits a picture",
    "embed": "make an index of a folder of pictures, or bring it up to date",
    "search": "find pictures in an index by a text or a picture",
    "models": "names, sizes, and where weights are",
    "convert": "weights from one layout to another",
    "report": "a page of a run or of results",
    "benchmark": "objectives side by side: same towers, data, steps and seeds",
}
"""Verb -> what it does. `diptych.cli.VERB.run(arguments)` does it; it may return an exit code."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, 2 for what a user did (one sentence on stderr), 130 for
    Ctrl-C."""
    # As with `python -m`, modules of this folder can be named (`module:Name`); it comes last, so
    # that none of them hides an installed one.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    code = 0
    verb, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    try:
        if verb in ("-h", "--help", "help"):
            print(_help())
        elif verb in ("-V", "--version", "version"):
            print(f"diptych {__version__}")
        elif verb in VERBS:
            code = importlib.import_module(f"diptych.cli.{verb}").run(rest) or 0
        else:
            raise UnknownNameError("verb", verb, VERBS)
        sys.stdout.flush()
    except DiptychError as error:
        print(f"diptych: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("diptych: stopped", file=sys.stderr)
        code = _INTERRUPTED
    except BrokenPipeError:
        # Who reads us has gone, as `head` does; Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    return (
        f"diptych {__version__}: contrastive image-text models (CLIP)\n\n"
        f"usage: diptych VERB ...\n\n{verbs}\n\n"
        "`diptych VERB --help` says more; `diptych --version`."
    )
