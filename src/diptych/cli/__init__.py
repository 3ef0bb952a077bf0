"""The command line: `diptych VERB ...`. One file per verb; only the one that is called is
imported."""

import contextlib
import errno
import importlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from diptych import durable
from diptych.cli.processes import is_alone, is_first
from diptych.components import import_module
from diptych.errors import (
    DiptychError,
    DiptychWarning,
    StoppedError,
    UnknownNameError,
    is_out_of_memory,
)
from diptych.exit_codes import ExitCode
from diptych.interrupts import Interrupted, Interrupts, listening
from diptych.terminal import escaped
from diptych.version import __version__

__all__ = ["VERBS", "command", "main"]

VERBS = {
    "demo": "train on real handwriting, evaluate, search, write a report: minutes on a CPU",
    "train": "train a recipe, or resume a run",
    "plan": "what a recipe needs of GPUs: memory in each mode, traffic, time",
    "evaluate": "zero-shot accuracy or retrieval on a folder, a table or shards",
    "classify": "which of some names fits a picture",
    "caption": "what a model that writes captions writes of pictures",
    "explain": "heat maps: where in a picture a text is, as the model sees it",
    "embed": "make an index of a folder of pictures, or bring it up to date",
    "search": "find pictures in an index by a text or a picture",
    "app": "search an index in the browser",
    "duplicates": "groups of pictures in an index that are nearly alike",
    "index": "an index for other programs (npy, faiss, usearch), or from clip-retrieval",
    "doctor": "why two loads of the same model give other vectors",
    "models": "names, sizes, and where weights are",
    "reinforce": "store what teachers make of training pairs, to distil from",
    "convert": "weights from one layout to another",
    "report": "a page of a run or of results",
    "benchmark": "objectives, or any runs, side by side: same towers, data, steps and seeds",
}
"""Verb -> what it does. `diptych.cli.VERB.run(arguments)` does it; it may return an exit code."""

_MEANT = {
    "train": {"fit", "finetune", "fine-tune", "resume", "tune"},
    "evaluate": {"eval", "test", "benchmarks", "measure", "probe", "linear", "retrieval", "score"},
    "classify": {"label", "predict", "tag", "zero-shot", "zeroshot"},
    "embed": {"encode", "features", "extract", "inference", "update", "build"},
    "search": {"query", "find"},
    "app": {"serve", "server", "ui", "web", "gui", "browse", "front", "back"},
    "duplicates": {"dedup", "dedupe", "near-duplicates"},
    "models": {"list", "download", "ls", "pull", "info"},
    "convert": {"export", "onnx", "quantize", "ship"},
    "report": {"plot", "table", "show"},
    "benchmark": {"compare", "seeds", "sweep"},
    "doctor": {"diff", "check"},
}
"""Verb -> words of other programs, and of people, for it."""
_KEPT = {
    "train": "no step was taken, and nothing is left of it",
    "benchmark": "what is trained so far is kept, and the same command goes on from it",
    "evaluate": "what is measured and encoded so far is kept, and the same command goes on from it",
    "embed": "what is embedded so far is kept, and the same command goes on from it",
    "reinforce": "the files that are finished are kept, and the same command goes on from them",
}
"""Verb -> what is left of it when it is stopped, beside what it has said."""
_ALIKE = 3.0
"""Seconds in which torchrun ends the other processes when the first has failed, as it fails where
they do."""
_TRUSTED = "DIPTYCH_IMPORT"
"""Modules that are imported first, with commas between them: files may then name them."""
_OBJECT = re.compile(r"(?:^|[\s,=/])[A-Za-z_][\w.]*:[A-Za-z_]\w*(?=$|[\s,])")
"""An import path among words, such as `package.module:Name`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with an `ExitCode`, or with 128 and the number of the signal
    that stopped it."""
    verb, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    command(verb, partial(_run_verb, verb), rest)


def command(
    verb: str, run: Callable[[list[str]], int | None], arguments: Sequence[str] | None = None
) -> None:
    """Run a program with the manners of the command line: what keeps it from being done is one
    sentence, signals are answered, and it exits as `main` does. `verb` is what it does; `arguments`
    None: this process's."""
    rest = sys.argv[1:] if arguments is None else list(arguments)
    if not is_alone():  # whom a store or a peer that is gone makes torch write pages
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with listening(_say) as interrupts, interrupts.at_last(partial(_last_words, verb, interrupts)):
        code = _run(verb, run, rest)
        if interrupts.reason:
            durable.abandon()
            interrupts.leave(code)  # what hangs must not keep it from ending
    sys.exit(code)


def _run_verb(verb: str, rest: list[str]) -> int | None:
    if verb in ("-h", "--help", "help"):
        print(_help())
    elif verb in ("-V", "--version", "version"):
        print(f"diptych {__version__}")
    elif verb in VERBS:
        return importlib.import_module(f"diptych.cli.{verb}").run(rest)
    else:
        near = [ours for ours, theirs in _MEANT.items() if verb.lower() in theirs]
        raise UnknownNameError("verb", verb, VERBS, near)
    return None


def _run(verb: str, run: Callable[[list[str]], int | None], rest: list[str]) -> int:
    """Do it, and say in one sentence what keeps it from being done; the exit code."""
    _import_from_here(rest)
    try:
        _import_trusted(os.environ.get(_TRUSTED, ""))
        with _warnings_as_sentences():
            code = run(rest) or ExitCode.DONE
            sys.stdout.flush()
            return code
    except StoppedError as error:
        if verb == "train" or not isinstance(error.__cause__, Interrupted):
            _say_once(str(error), error.quiet)
            return ExitCode.AGAIN
        return _stopped(verb, error.__cause__)  # a verb that trains on the way
    except DiptychError as error:
        _say_once(str(error), error.quiet)
        return ExitCode.REFUSED
    except KeyboardInterrupt as stop:
        return _stopped(verb, stop)
    except BrokenPipeError:
        # Who reads us has gone, as `head` does; Python must not complain when it flushes at exit.
        _write_nowhere()
    except OSError as error:
        _say_once(_disk_sentence(error))
        _write_nowhere()
        return ExitCode.REFUSED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _say_once("there isn't enough memory for this; a smaller batch or model needs less")
        return ExitCode.REFUSED
    return ExitCode.DONE


def _stopped(verb: str, stop: KeyboardInterrupt) -> int:
    ours = stop if isinstance(stop, Interrupted) else Interrupted("SIGINT", 130)
    quiet = not is_first() if ours.quiet is None else ours.quiet
    _say_once(_with_what_is_kept(verb, ours), quiet)
    return ours.code


def _last_words(verb: str, interrupts: Interrupts) -> tuple[str, int]:
    """Where `verb` can't be interrupted, and its process is ended from another thread."""
    durable.abandon()
    stop = Interrupted(interrupts.reason, interrupts.code)
    return _with_what_is_kept(verb, stop) if is_first() else "", stop.code


def _with_what_is_kept(verb: str, stop: Interrupted) -> str:
    return f"{stop}; {_KEPT[verb]}" if verb in _KEPT else str(stop)


def _say_once(sentence: str, quiet: bool | None = None) -> None:
    """Say it, if no other process of the run does; where nobody knows (None), the first says it,
    and who is still there after a while."""
    if quiet is None and not is_first():
        with contextlib.suppress(Interrupted):
            time.sleep(_ALIKE)
            _say(sentence)
    elif not quiet:
        _say(sentence)


_NEXT_STEPS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "choose a place that you may use, or have its owner open it to you",
    errno.EPERM: "choose a place that you may use, or have its owner open it to you",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def _disk_sentence(error: OSError) -> str:
    """What the system refused, and what to do."""
    place = "the output (stdout)" if error.filename is None and _is_stuck() else error.filename
    what = f"{place}: " if place is not None else ""
    step = _NEXT_STEPS.get(error.errno or 0, "")
    return f"{what}{error.strerror or error}" + (f"; {step}" if step else "")


def _is_stuck() -> bool:
    """Whether stdout, whose errors name no file, takes nothing: an empty line tells, also where
    nothing is buffered."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _say(sentence: str) -> None:
    """On stderr, with control characters of foreign names shown instead of sent."""
    with contextlib.suppress(OSError):  # stderr may be what is full
        print(f"diptych: {escaped(sentence)}", file=sys.stderr)


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _warnings_as_sentences() -> Generator[None, None, None]:
    """Each warning of ours is one line on stderr, without the place in the code."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, DiptychWarning):
                if is_first():
                    _say(str(message))
            else:
                plain(message, category, *place)

        warnings.simplefilter("always", DiptychWarning)
        warnings.showwarning = show
        yield


def _import_from_here(arguments: Sequence[str]) -> None:
    """Where a module is named (`module:Name`) or a run of this folder goes on, modules are also
    found in the current folder; it comes last, so that none hides an installed one.

    Not otherwise: a description beside somebody's weights names modules, too, and what was
    downloaded into the current folder must not run.
    """
    named = _OBJECT.search(" ".join(arguments)) or "--resume" in arguments
    if named and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _import_trusted(modules: str) -> None:
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in filter(None, modules.split(",")):
        import_module(module.strip(), _TRUSTED)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())
    codes = "\n".join(f"  {code:<5}  {code.meaning}" for code in ExitCode)
    return (
        f"diptych {__version__}: contrastive image-text models (CLIP)\n\n"
        f"usage: diptych VERB ...\n\n{verbs}\n\n"
        "`diptych VERB --help` says more; `diptych --version`.\n\n"
        f"exit codes:\n{codes}\n  128+n  stopped by the signal n (130: Ctrl-C, 143: SIGTERM), and "
        "nothing of a training is saved"
    )
