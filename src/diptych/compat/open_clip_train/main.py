"""`open_clip_train.main` over Diptych: prints the equivalent command, and runs it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diptych.checkpoints.steps import checkpoints
from diptych.cli import command
from diptych.cli.processes import is_first, said_by_the_first
from diptych.cli.show import say
from diptych.cli.train import train
from diptych.compat.factory import create_loss, create_model_and_transforms, get_tokenizer
from diptych.compat.model import trace_model
from diptych.compat.open_clip_train.command import script_of
from diptych.compat.open_clip_train.data import get_data
from diptych.compat.open_clip_train.distributed import (
    broadcast_object,
    init_distributed_device,
    is_master,
)
from diptych.compat.open_clip_train.file_utils import check_exists, pt_load
from diptych.compat.open_clip_train.latest import get_latest_checkpoint, natural_key
from diptych.compat.open_clip_train.logger import setup_logging
from diptych.compat.open_clip_train.params import parse_args
from diptych.compat.open_clip_train.parse import parse
from diptych.compat.open_clip_train.scheduler import const_lr, const_lr_cooldown, cosine_lr
from diptych.compat.open_clip_train.train import evaluate, train_one_epoch
from diptych.compat.open_clip_train.translate import RECIPE, Translation, translate
from diptych.compat.open_clip_train.utils import random_seed
from diptych.distributed import started_as
from diptych.errors import ConfigError, DiptychError, StoppedError
from diptych.exit_codes import ExitCode

__all__ = [
    "broadcast_object",
    "check_exists",
    "const_lr",
    "const_lr_cooldown",
    "cosine_lr",
    "create_loss",
    "create_model_and_transforms",
    "evaluate",
    "get_data",
    "get_latest_checkpoint",
    "get_tokenizer",
    "init_distributed_device",
    "is_master",
    "main",
    "natural_key",
    "parse_args",
    "pt_load",
    "random_seed",
    "run",
    "setup_logging",
    "trace_model",
    "train_one_epoch",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (None: this process's), and return as open_clip's `main` does.

    What is refused of `arguments` is raised, as the command line's own sentences (DiptychError).
    Of this process's command line it is said, and the process exits with the `ExitCode` of it.
    """
    refused = list[DiptychError]()

    def kept(words: Sequence[str]) -> int | None:
        try:
            run(words)
        except StoppedError:
            raise
        except DiptychError as error:
            if arguments is None:
                raise
            refused.append(error)
            return ExitCode.REFUSED

    try:
        command("train", kept, arguments)
    except SystemExit as end:
        if refused:
            raise refused[0] from None
        if end.code:
            raise


def run(arguments: Sequence[str]) -> None:
    """Translate, print, and train unless `--dry-run` is among the arguments."""
    with said_by_the_first():
        options, remarks = parse(arguments or ["--help"])
    started = started_as()[1]
    if options.processes and not options.dry_run:
        raise ConfigError(
            f"--processes {options.processes} is of --dry-run: torchrun says how many there are"
        )
    processes = options.processes or started
    found = translate(options, processes)
    if not options.name:
        found = _numbered(found)
    if is_first():
        for remark in (*remarks, *found.remarks):
            say(f"remark: {remark}", error=True)
        for line in script_of(found.run, RECIPE, found.resume, processes):
            say(line)
    if options.dry_run:
        return
    _refuse_another(found)
    train(found.run, found.resume)


def _numbered(found: Translation) -> Translation:
    """A run without a name of its own: in a folder that holds no run yet, as open_clip's date makes
    it, or the latest one, if it goes on. Every process finds the same, since none writes before all
    have come together."""
    out, number = found.run.out, 1
    last = out
    while checkpoints(Path(out)):
        last, number = out, number + 1
        out = f"{found.run.out}-{number}"
    return replace(found, run=replace(found.run, out=last if found.resume else out))


def _refuse_another(found: Translation) -> None:
    """Raises ConfigError if the folder holds a run that isn't to go on."""
    if not found.resume and checkpoints(Path(found.run.out)):
        raise ConfigError(
            f"{found.run.out} already holds a run: --resume latest goes on with it, --name NAME "
            "starts another"
        )


if __name__ == "__main__":
    main()
