"""The flags of `open_clip_train.main`, each with its default there and what becomes of it here.

The names, types and defaults are those of open_clip 3.3.0 (`params.py`); what its main branch has
beside them stands in `LATER`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from diptych.config.ranges import (
    Above,
    Context,
    Count,
    Factor,
    Finite,
    Layers,
    Pixels,
    Ranged,
    Seed,
    ShareBelowAll,
    ShareOfSome,
    Some,
    Workers,
)

Kind = Literal["translated", "remarked", "refused"]


class Fate(NamedTuple):
    """What becomes of a flag that is set."""

    kind: Kind
    """`translated`: to settings of a Run. `remarked`: nothing, which changes no number of the
    training, and is said. `refused`: an error, since leaving it out would."""
    text: str
    """The settings, or why there are none."""


def _to(default: Any, text: str) -> Any:
    return field(default=default, metadata={"fate": Fate("translated", text)})


def _said(default: Any, text: str) -> Any:
    return field(default=default, metadata={"fate": Fate("remarked", text)})


def _no(default: Any, text: str) -> Any:
    return field(default=default, metadata={"fate": Fate("refused", text)})


_PATH = "--model.name, --model.init; with changes to the model a JSON file as --model.name"
_CHANGED = "a JSON file as --model.name"
_COLOURS = "scale and ratio alone: --data.augment.scale, --data.augment.ratio"
_SYNC = "nothing is copied elsewhere: name a mounted folder as --logs, or copy it beside the run"
_LOOP = "a loop of one's own takes it (`create_loss_from_args`)"
_COMPILED = "`diptych train` compiles blocks, in a way of its own"
_COCA = "of a CoCa model: --objective coca"


@dataclass(frozen=True, kw_only=True)
class Options(Ranged):
    """A command line of `open_clip_train.main`. Raises ConfigError for a number out of its
    range."""

    flags: ClassVar[str] = "--"

    train_data: str | None = _to(None, "--data.path; a manifest: --data.upsample, --steps, too")
    train_data_upsampling_factors: str | None = _to(None, "--data.upsample")
    val_data: str | None = _to(None, "--evaluation.pairs")
    train_num_samples: Some | None = _to(
        None, "of shards: --steps, by open_clip's count of an epoch; of a table: its rows are"
    )
    val_num_samples: Count | None = _said(None, "pairs are counted")
    dataset_type: Literal["webdataset", "csv", "synthetic", "auto"] = _to(
        "auto", "--data.path, whose ending says it; synthetic:COUNT"
    )
    dataset_resampled: bool = _to(False, "--data.resample")
    csv_separator: str = _to("\t", "--data.separator")
    csv_img_key: str = _to("filepath", "of a table: --data.image-key")
    csv_caption_key: str = _to("title", "of a table: --data.caption-key")
    imagenet_val: str | None = _to(None, "--evaluation.path, --evaluation.templates openai-80")
    imagenet_v2: str | None = _to(None, "a further set of --evaluation.path")
    cache_dir: str | None = _said(None, "downloads lie where HF_HOME says")
    logs: str = _to("./logs/", "--out LOGS/NAME")
    log_local: bool = _said(False, "the first process alone writes")
    name: str | None = _to(
        None, "--out LOGS/NAME; without it open_clip's, with a number in the place of the date"
    )
    workers: Workers = _to(4, "--data.workers")
    batch_size: Some = _to(64, "--batch-size, times --accum-freq, times the processes")
    epochs: Some = _to(32, "--epochs, or --steps")
    epochs_cooldown: Count | None = _to(None, "--optim.cooldown, as a share of all steps")
    lr: Above | None = _to(None, "--optim.lr; without it 5e-4")
    beta1: ShareBelowAll | None = _to(None, "--optim.betas; without it 0.9")
    beta2: ShareBelowAll | None = _to(
        None, "--optim.betas; without it 0.98 if the model is a ViT, or 0.999"
    )
    eps: Factor | None = _to(None, "--optim.eps; without it 1e-6 if the model is a ViT, or 1e-8")
    wd: Factor = _to(0.2, "--optim.weight-decay, --optim.decayed tensors")
    momentum: ShareBelowAll | None = _to(None, "of --opt timm/sgd: --optim.momentum")
    warmup: Count = _to(10000, "--optim.warmup")
    opt: str = _to("adamw", "--optim.name; timm/adamw, timm/lamb, timm/lion and timm/sgd, too")
    use_bn_sync: bool = _to(False, "always so")
    skip_scheduler: bool = _to(False, "--optim.schedule constant, --optim.warmup 0")
    lr_scheduler: str = _to("cosine", "--optim.schedule; const-cooldown: with --optim.cooldown")
    lr_cooldown_end: Factor = _to(0.0, "--optim.final-lr")
    lr_cooldown_power: Above = _to(1.0, "--optim.cooldown-power")
    save_frequency: Count = _to(1, "--save.every-epochs, or --save.every-steps")
    save_most_recent: bool = _to(False, "--save.every-epochs 1")
    zeroshot_frequency: Count = _to(2, "--evaluation.every-epochs, or --evaluation.every-steps")
    val_frequency: Count = _to(1, "as --zeroshot-frequency; the more frequent one counts for both")
    resume: str | None = _to(None, "latest: --resume-if-any; a path is refused")
    precision: Literal[
        "amp", "amp_bf16", "amp_bfloat16", "bf16", "fp16", "pure_bf16", "pure_fp16", "fp32"
    ] = _to("amp", "--precision fp16 (on a CPU bf16), bf16, fp32; weights in half are refused")
    model: str = _to("RN50", _PATH)
    pretrained: str = _to("", "--model.init, with --model.name beside a file")
    pretrained_image: bool = _no(
        False,
        "timm's weights aren't fetched by themselves: diptych train … --model.image.init FILE",
    )
    lock_image: bool = _to(False, "--model.image.freeze")
    lock_image_unlocked_groups: Layers = _to(0, "--model.image.unlocked-layers")
    lock_image_freeze_bn_stats: bool = _to(False, "always so, of locked layers")
    image_mean: tuple[Finite, ...] | None = _to(None, _CHANGED)
    image_std: tuple[Above, ...] | None = _to(None, _CHANGED)
    image_interpolation: Literal["bicubic", "bilinear", "random"] | None = _to(
        None, f"{_CHANGED}; random is refused"
    )
    image_resize_mode: Literal["shortest", "longest", "squash"] | None = _to(None, _CHANGED)
    aug_cfg: dict[str, Any] | None = _to(None, _COLOURS)
    grad_checkpointing: bool = _to(False, "--model.image.checkpointing, --model.text.checkpointing")
    local_loss: bool = _to(False, "always so: the gradient is that of the whole batch")
    gather_with_grad: bool = _to(False, "always so: the gradient is that of the whole batch")
    force_context_length: Context | None = _to(None, _CHANGED)
    force_image_size: tuple[Pixels, ...] | None = _to(None, "--model.image.size")
    force_quick_gelu: bool = _to(False, _CHANGED)
    force_patch_dropout: ShareBelowAll | None = _to(None, "--model.image.patch-dropout")
    force_custom_text: bool = _said(False, "there is one class for all text towers")
    torchscript: bool = _said(False, "nothing is scripted; --torchcompile compiles")
    torchcompile: bool = _to(False, "--compile")
    trace: bool = _no(False, "a traced model can't be trained")
    accum_freq: Some = _to(1, "--batch-size, and --micro-batch of --batch-size here")
    device: str = _to("cuda", "the GPU if there is one; CUDA_VISIBLE_DEVICES says which")
    dist_url: str | None = _to(None, "env:// is torchrun's; others are refused")
    dist_backend: str | None = _said(None, "NCCL on GPUs, Gloo on CPUs")
    report_to: str = _to("", "--track.tensorboard, --track.wandb PROJECT")
    wandb_notes: str = _said("", "runs have no notes")
    wandb_project_name: str = _to("open-clip", "--track.wandb")
    debug: bool = _said(False, "nothing more is logged")
    copy_codebase: bool = _said(False, "run.json holds all settings; keep the version of the code")
    horovod: bool = _no(False, "processes are started by torchrun")
    ddp_static_graph: bool = _said(False, "it needs no setting")
    no_set_device_rank: bool = _no(
        False, "let each process see all GPUs of its machine, as torchrun starts it"
    )
    seed: Seed = _to(0, "--seed; another order of the data and other draws than open_clip's")
    grad_clip_norm: Factor | None = _to(None, "--optim.max-norm")
    lock_text: bool = _to(False, "--model.text.freeze")
    lock_text_unlocked_layers: Layers = _to(0, "--model.text.unlocked-layers")
    lock_text_freeze_layer_norm: bool = _to(False, "always so, of locked layers")
    log_every_n_steps: Some = _to(100, "--track.every-steps")
    coca_caption_loss_weight: Factor = _to(
        2.0, f"{_COCA} --objective.captions-weight; 0: its contrast alone, --objective clip"
    )
    coca_contrastive_loss_weight: Factor = _to(1.0, f"{_COCA} --objective.pairs-weight")
    caption_z_loss_weight: Factor = _said(0.0, f"`diptych train` has no z-loss; {_LOOP}")
    caption_loss_compute_dtype: Literal["float32", "model"] = _said(
        "float32", f"`diptych train` computes cross entropies in float32; {_LOOP}"
    )
    caption_loss_chunk_size: Some | None = _said(None, "logits are held whole")
    opt_kwargs: dict[str, Any] | None = _to(
        None, "betas, eps, weight_decay, momentum: as --beta1 and the like; others are refused"
    )
    val_retrieval_chunk_size: Count = _said(
        0, "no matrix of all pairs is held, whatever their number"
    )
    val_retrieval_precision: str | None = _said(None, "retrieval is measured in float32")
    torchcompile_strategy: Literal["task", "model", "blocks", "step"] = _said("task", _COMPILED)
    torchcompile_backend: str | None = _said(None, _COMPILED)
    torchcompile_mode: str | None = _said(None, _COMPILED)
    text_attention_mask: bool | None = _to(
        None, "of captions: padding is always known by its id; of other models refused"
    )
    remote_sync: str | None = _no(None, _SYNC)
    remote_sync_frequency: Count = _said(300, _SYNC)
    remote_sync_protocol: Literal["s3", "fsspec"] = _said("s3", _SYNC)
    delete_previous_checkpoint: bool = _to(False, "--save.keep 1; without it all are kept")
    distill_model: str | None = _to(
        None, "--objective distill, --objective.teachers, as open_clip weighs them"
    )
    distill_pretrained: str | None = _to(None, "the weights of --distill-model")
    use_bnb_linear: str | None = _no(None, "linear layers aren't replaced by bitsandbytes'")
    siglip: bool = _to(False, "--objective siglip; the scale isn't clamped")
    loss_dist_impl: str | None = _said(None, "the loss is the same, however it travels")

    image_layer_decay: ShareOfSome | None = _to(None, "--model.image.layer-decay")
    text_layer_decay: ShareOfSome | None = _to(None, "--model.text.layer-decay")
    image_key: str | None = _to(None, "of shards: --data.image-key")
    text_key: str | None = _to(None, "of shards: --data.caption-key")
    json_text_key: str | None = _to(None, "of shards: --data.caption-key, a field of the .json")
    fsdp: bool = _to(False, "--shard.mode zero3")
    fsdp_no_reshard_after_forward: bool = _to(False, "--shard.mode zero2")
    fsdp_offload_cpu: bool = _to(False, "--shard.offload")

    dry_run: bool = _to(False, "ours: print what would be run, and end")
    processes: Some | None = _to(None, "ours, of --dry-run: for so many processes")


OWN = ("dry_run", "processes")
"""Flags that open_clip hasn't."""
MAINS = (
    "image_layer_decay",
    "text_layer_decay",
    "image_key",
    "text_key",
    "json_text_key",
    "fsdp",
    "fsdp_no_reshard_after_forward",
    "fsdp_offload_cpu",
    "caption_z_loss_weight",
    "caption_loss_compute_dtype",
    "caption_loss_chunk_size",
    "opt_kwargs",
    "val_retrieval_chunk_size",
    "val_retrieval_precision",
    "torchcompile_strategy",
    "torchcompile_backend",
    "torchcompile_mode",
    "text_attention_mask",
)
"""Flags of open_clip's main branch that are translated."""


def _all(names: str, kind: Kind, text: str) -> dict[str, Fate]:
    return dict.fromkeys(names.split(), Fate(kind, text))


LATER: dict[str, Fate] = {
    **_all(
        "log-metric-every-n-steps train-loss-ema-samples fsdp-checkpoint max-image-pixels "
        "opt-fallback-list text-pad-multiple length-bucketing bucket-pool bucket-chunk "
        "bucket-prefetch-pools",
        "remarked",
        "it has no setting here, and changes no number of the training",
    ),
    **_all(
        "wd-exclude text-pooler-own-group json-text-key-probs audio-layer-decay",
        "refused",
        "it has no counterpart here",
    ),
    **_all(
        "use-naflex force-naflex-vision naflex-patch-sizes naflex-patch-size-probs naflex-seq-lens "
        "naflex-seq-len-probs naflex-max-tokens-per-batch naflex-max-text-tokens "
        "naflex-num-train-image-tokens naflex-batch-divisor naflex-loss-scale naflex-pad-multiple",
        "refused",
        "its batches hold as many pairs as a budget of tokens allows; here all have --batch-size "
        "pairs, and --data.patches 128 256 576 draws a budget of patches for each",
    ),
    **_all(
        "audio-ext audio-fill audio-trunc audio-fusion audio-int16-normalize "
        "audio-multiprocessing-context pretrained-audio audio-zeroshot-dataset "
        "audio-zeroshot-split audio-zeroshot-audio-key audio-zeroshot-target-key "
        "audio-zeroshot-class-key audio-zeroshot-template audio-zeroshot-workers "
        "audio-zeroshot-multiprocessing-context",
        "refused",
        "models are of pictures and texts, not of sound",
    ),
}
"""What else open_clip's main branch has, and what becomes of it."""
