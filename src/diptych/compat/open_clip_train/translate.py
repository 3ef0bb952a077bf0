"""From a command line of open_clip_train to a Run."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from diptych import recipes
from diptych.compat.open_clip_train.model import model_of, weights_of
from diptych.compat.open_clip_train.optim import optim_of
from diptych.compat.open_clip_train.options import Options
from diptych.config import (
    ClipObjectiveConfig,
    DataConfig,
    DistillObjectiveConfig,
    EvaluationConfig,
    ObjectiveConfig,
    Run,
    SaveConfig,
    ShardConfig,
    SiglipObjectiveConfig,
    TrackConfig,
)
from diptych.errors import ConfigError, UnknownNameError

RECIPE = "clip-vit-b-32"
"""Of which the command that is printed says the differences."""
_TABLES, _SHARDS = ("csv", "tsv"), ("tar",)
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

    >>> from diptych.compat.open_clip_train import parse, translate
    >>> options, _ = parse(["--train-data", "a.csv", "--model", "ViT-B-32", "--batch-size", "8"])
    >>> run = translate(options, processes=4).run
    >>> run.model.name, run.batch_size, run.optim.betas, run.data.separator
    ('ViT-B-32', 32, (0.9, 0.98), '\\\\t')
    """
    _refuse_counts(options)
    on_gpu = torch.cuda.is_available() if gpu is None else gpu
    remarks = _machine(options, processes, on_gpu)
    base = recipes.get(RECIPE)
    data, epoch = _data(options, base.data, processes)
    evaluation, said = _evaluation(options, base.evaluation, epoch)
    model, of_model = model_of(options)
    pairs = options.batch_size * processes
    run = replace(
        base,
        model=model,
        objective=_objective(options),
        data=data,
        optim=optim_of(options),
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
    return Translation(run, _resume(options), (*remarks, *of_model, *said))


def _refuse_counts(options: Options) -> None:
    """Raises ConfigError for numbers that an epoch's steps can't be counted with."""
    for flag, value in (
        ("--batch-size", options.batch_size),
        ("--accum-freq", options.accum_freq),
        ("--epochs", options.epochs),
        ("--train-num-samples", options.train_num_samples),
        ("--processes", options.processes),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"{flag} {value} must be a number of at least 1")


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


def _data(options: Options, base: DataConfig, processes: int) -> tuple[DataConfig, int]:
    """The data, and how many steps open_clip takes an epoch for; 0: it is all samples once."""
    kind, path = _kind(options)
    data = replace(base, path=path, workers=options.workers, resample=options.dataset_resampled)
    if factors := options.train_data_upsampling_factors:
        if not options.dataset_resampled:
            raise ConfigError("--train-data-upsampling-factors needs --dataset-resampled")
        data = replace(data, upsample=_factors(factors))
    if options.aug_cfg:
        data = replace(data, augment=replace(data.augment, **_crop(options.aug_cfg)))
    if kind == "csv":
        separator = options.csv_separator.replace("\t", "\\t")
        keys = {"image_key": options.csv_img_key, "caption_key": options.csv_caption_key}
        return replace(data, separator=separator, **keys), 0
    if kind == "synthetic":
        return data, 0
    captions = options.json_text_key or options.text_key or "txt"
    keys = {"image_key": options.image_key or "jpg;png;jpeg;webp", "caption_key": captions}
    return replace(data, **keys), _steps_of_shards(options, processes)


def _kind(options: Options) -> tuple[str, str]:
    """webdataset, csv or synthetic; and the path here."""
    kind, path = options.dataset_type, options.train_data or ""
    if kind == "synthetic":
        if not options.train_num_samples:
            raise ConfigError("--dataset-type synthetic needs --train-num-samples")
        return kind, f"synthetic:{options.train_num_samples}"
    if not path:
        raise ConfigError(_no_data(options))
    if kind != "auto":
        return kind, path
    ending = path.rpartition(".")[2]
    if ending in (*_TABLES, *_SHARDS):
        return "csv" if ending in _TABLES else "webdataset", path
    raise ConfigError(
        f"--train-data {path}: the ending .{ending} doesn't say what it is; say --dataset-type "
        "webdataset or csv"
    )


def _no_data(options: Options) -> str:
    """What to do in place of a command line that only evaluates."""
    model = weights_of(options.model, options.pretrained) if options.pretrained else options.model
    if options.imagenet_val or options.imagenet_v2:
        command = f"`diptych evaluate {model} --tasks imagenet1k --data-root FOLDER`"
    elif options.val_data:
        command = f"`diptych evaluate {model} --data {options.val_data}`"
    else:
        command = "`diptych evaluate --help`"
    return f"there is no --train-data; to evaluate alone: {command}"


def _factors(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split("::")))
    except ValueError as error:
        raise ConfigError(
            f"--train-data-upsampling-factors {text} must be numbers joined by ::"
        ) from error


def _crop(asked: dict[str, Any]) -> dict[str, Any]:
    """Of open_clip's `AugmentationCfg`; what isn't set there changes nothing."""
    crop = dict[str, tuple[Any, ...]]()
    for name, value in asked.items():
        if name in ("scale", "ratio") and value:
            if not isinstance(value, tuple | list):
                raise ConfigError(f"--aug-cfg {name}={value} must be two numbers: {name}=(0.9,1.0)")
            crop[name] = tuple(value)
        if name not in ("scale", "ratio") and value:
            raise ConfigError(
                f"--aug-cfg {name}={value} has no counterpart: of plain crops scale and ratio are "
                "set"
            )
    return crop


def _steps_of_shards(options: Options, processes: int) -> int:
    """As open_clip counts: batches of an epoch, rounded up twice, to whole ones and to as many for
    each loader process. 0: all samples that the shards hold, which are counted when they are
    opened."""
    if not options.train_num_samples:
        return 0
    batches = math.ceil(options.train_num_samples / (options.batch_size * processes))
    workers = max(1, options.workers)
    steps = math.ceil(batches / workers) * workers // options.accum_freq
    if not steps:
        raise ConfigError(
            f"--train-num-samples {options.train_num_samples} are no whole step of --accum-freq "
            f"{options.accum_freq} batches"
        )
    return steps


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


def _objective(options: Options) -> ObjectiveConfig:
    teacher, weights = options.distill_model, options.distill_pretrained
    if not (teacher or weights):
        return SiglipObjectiveConfig() if options.siglip else ClipObjectiveConfig()
    if not (teacher and weights):
        raise ConfigError("--distill-model and --distill-pretrained are said together, or neither")
    if options.siglip:
        raise ConfigError("--siglip beside --distill-model: open_clip can't train this, either")
    return DistillObjectiveConfig(
        teachers=(weights_of(teacher, weights),), pairs_weight=1.0, form="cross_entropy"
    )


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
