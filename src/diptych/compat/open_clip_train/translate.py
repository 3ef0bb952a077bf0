"""From a command line of open_clip_train to a Run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diptych import recipes
from diptych.compat.open_clip_train.data_flags import data_of
from diptych.compat.open_clip_train.model import model_of
from diptych.compat.open_clip_train.objective import objective_of
from diptych.compat.open_clip_train.optim_flags import optim_of
from diptych.compat.open_clip_train.optim_kwargs import with_kwargs
from diptych.compat.open_clip_train.options import Options
from diptych.config import (
    EvaluationConfig,
    Run,
    SaveConfig,
    ShardConfig,
    TrackConfig,
)
from diptych.errors import ConfigError, UnknownNameError

RECIPE = "clip-vit-b-32"
"""Of which the command that is printed says the differences."""
_ALL = "all"
"""Of `--report-to`."""


@dataclass(frozen=True)
class Translation:
    """What a command line of open_clip_train means here."""

    run: Run
    resume: bool
    """Whether it goes on where its folder holds a checkpoint."""
    remarks: tuple[str, ...]
    """What the user should know."""


def translate(options: Options, processes: int = 1, gpu: bool | None = None) -> Translation:
    """The run that these options mean for so many processes; `gpu`: on GPUs (None: if there are
    some).

    Raises ConfigError for what has no counterpart and for settings that open_clip refuses, and
    UnknownNameError for names of models and weights.

    >>> from diptych.compat.open_clip_train.parse import parse
    >>> from diptych.compat.open_clip_train.translate import translate
    >>> options, _ = parse(["--train-data", "a.csv", "--model", "ViT-B-32", "--batch-size", "8"])
    >>> run = translate(options, processes=4).run
    >>> run.model.name, run.batch_size, run.optim.betas, run.data.separator
    ('ViT-B-32', 32, (0.9, 0.98), '\\\\t')
    """
    on_gpu = torch.cuda.is_available() if gpu is None else gpu
    remarks = _machine(options, processes, on_gpu)
    base = recipes.get(RECIPE)
    data, epoch = data_of(options, base.data, processes)
    evaluation, said = _evaluation(options, base.evaluation, epoch)
    model, of_model = model_of(options)
    optim, of_optim = with_kwargs(optim_of(options), options)
    pairs = options.batch_size * processes
    run = replace(
        base,
        model=model,
        objective=objective_of(options),
        data=data,
        optim=optim,
        save=_save(options, epoch),
        evaluation=evaluation,
        track=_track(options),
        shard=_shard(options),
        batch_size=pairs * options.accum_freq,
        micro_batch=options.batch_size if options.accum_freq > 1 else 0,
        steps=epoch * options.epochs,
        epochs=0.0 if epoch else float(options.epochs),
        precision=_precision(options, on_gpu),
        compile=options.torchcompile,
        seed=options.seed,
        out=_out(options),
    )
    return Translation(run, _resume(options), (*remarks, *of_model, *of_optim, *said))


def _machine(options: Options, processes: int, on_gpu: bool) -> list[str]:
    if options.dist_url not in (None, "env://"):
        raise ConfigError(
            f"--dist-url {options.dist_url}: processes meet where torchrun says; start them with "
            "torchrun, and leave it out"
        )
    if (wanted := options.device) not in ("cuda", "cpu"):
        raise ConfigError(
            f"--device {wanted}: CUDA_VISIBLE_DEVICES says which GPUs are used, and there are GPUs "
            "and CPUs alone; leave it out"
        )
    if wanted == "cpu" and on_gpu:
        raise ConfigError(
            "--device cpu: hide the GPUs, by CUDA_VISIBLE_DEVICES= before the command"
        )
    remarks = list[str]()
    if wanted == "cuda" and not on_gpu:
        remarks.append("--device cuda: there is no GPU here, so this is for a CPU")
    if processes > 1 and not (options.gather_with_grad or options.siglip):
        remarks.append(
            "without --gather-with-grad open_clip's gradient isn't that of the whole batch; here "
            "it is"
        )
    return remarks


def _when(frequency: int, epoch: int) -> dict[str, Any]:
    """Every so many epochs, of so many steps each; an epoch of 0 is all of the data."""
    if not frequency:
        return {"every_steps": 0, "every_epochs": 0.0}
    if epoch:
        return {"every_steps": frequency * epoch, "every_epochs": 0.0}
    return {"every_epochs": float(frequency)}


def _evaluation(
    options: Options, base: EvaluationConfig, epoch: int
) -> tuple[EvaluationConfig, list[str]]:
    pictures = [path for path in (options.imagenet_val, _v2(options.imagenet_v2)) if path]
    pairs = options.val_data or ""
    found = {options.zeroshot_frequency: bool(pictures)}
    found[options.val_frequency] = found.get(options.val_frequency, False) or bool(pairs)
    frequencies = sorted(n for n, wanted in found.items() if wanted and n)
    if not frequencies:
        return base, ["nothing is measured on the way"] if pictures or pairs else []
    changed = replace(base, **_when(frequencies[0], epoch))
    if options.zeroshot_frequency and pictures:
        path = pictures[0] if len(pictures) == 1 else tuple(pictures)
        changed = replace(changed, path=path, templates=("openai-80",))
    if options.val_frequency and pairs:
        changed = replace(changed, pairs=pairs)
    said = f"one interval is for all that is measured: every {frequencies[0]} epochs"
    return changed, [said] if len(frequencies) > 1 else []


def _v2(place: str | None) -> str | None:
    """The set that open_clip takes of those that lie in a folder of ImageNetV2."""
    inner = Path(place or "", "ImageNetV2-matched-frequency-format-val")
    return str(inner) if place and inner.is_dir() else place


def _save(options: Options, epoch: int) -> SaveConfig:
    frequency = 1 if options.save_most_recent else options.save_frequency
    latest = options.delete_previous_checkpoint or not options.save_frequency
    return SaveConfig(**{"every_steps": 0} | _when(frequency, epoch), keep=1 if latest else 0)


def _track(options: Options) -> TrackConfig:
    readers = set(filter(None, map(str.strip, options.report_to.split(","))))
    if unknown := sorted(readers - {"wandb", "tensorboard", _ALL}):
        raise UnknownNameError("reader of --report-to", unknown[0], ("wandb", "tensorboard", _ALL))
    return TrackConfig(
        every_steps=options.log_every_n_steps,
        tensorboard=bool(readers & {"tensorboard", _ALL}),
        wandb=options.wandb_project_name if readers & {"wandb", _ALL} else "",
    )


def _shard(options: Options) -> ShardConfig:
    if not options.fsdp:
        return ShardConfig()
    mode = "zero2" if options.fsdp_no_reshard_after_forward else "zero3"
    return ShardConfig(mode=mode, offload=options.fsdp_offload_cpu)


_HALF = ("bf16", "fp16", "pure_bf16", "pure_fp16")


def _precision(options: Options, on_gpu: bool) -> Any:
    if options.precision in _HALF:
        other = "amp_bf16" if "bf16" in options.precision else "amp"
        raise ConfigError(
            f"--precision {options.precision}: weights are trained in float32; --precision {other} "
            "computes in half precision, too"
        )
    if options.precision == "amp":
        return "fp16" if on_gpu else "bf16"  # autocast's own choice on either
    return "fp32" if options.precision == "fp32" else "bf16"


def _out(options: Options) -> str:
    if options.logs.lower() == "none" or not options.logs:
        raise ConfigError(f"--logs {options.logs}: a run is always saved; name a folder")
    name = Path(options.name or "")
    if name.is_absolute() or ".." in name.parts:
        raise ConfigError(f"--name {name} leads out of --logs {options.logs}; name a folder in it")
    parts = (
        f"model_{options.model.replace('/', '-')}",
        f"lr_{optim_of(options).lr}",
        f"b_{options.batch_size}",
        f"j_{options.workers}",
        f"p_{options.precision}",
    )
    return str(Path(options.logs, options.name or "-".join(parts)))


def _resume(options: Options) -> bool:
    if options.resume not in (None, "", "latest"):
        raise ConfigError(
            f"--resume {options.resume}: a run goes on in its own folder, LOGS/NAME, by --resume "
            "latest; to start another one from the weights of a file: --pretrained "
            f"{options.resume}"
        )
    return options.resume == "latest"
