"""Which model a command line of open_clip_train means, and what of it is changed."""

from dataclasses import replace

from diptych import pretrained as published
from diptych.checkpoints.describe import read_config
from diptych.compat.loading import places
from diptych.compat.loading.activations import with_activation
from diptych.compat.open_clip_train.options import Options
from diptych.config import ClipConfig, ModelConfig, TowerOptions
from diptych.errors import ConfigError


def model_of(options: Options) -> tuple[ModelConfig, list[str]]:
    """The model of a run, and what the user should know of it.

    Raises UnknownNameError for a name or a tag that nothing has, and ConfigError for what can't be
    trained so.
    """
    name, tag = options.model, options.pretrained
    remarks = list[str]()
    if places.is_place(name):
        if tag:
            remarks.append(f"--pretrained {tag} is passed over: {name} says where the weights are")
        chosen = ModelConfig(init=name.removeprefix(places.LOCAL))
    elif tag and not places.is_place(tag):
        chosen = ModelConfig(init=weights_of(name, tag))
    else:
        read_config(name)  # a name that nothing has is said before anything else
        chosen = ModelConfig(name=name, init=tag.removeprefix(places.LOCAL))
    if _changes(options):
        config = _changed(_config_of(options), options)
        chosen = ModelConfig(custom=config, init=chosen.init)
    image, text, said = _towers(options)
    return replace(chosen, image=image, text=text), remarks + said


def weights_of(name: str, tag: str) -> str:
    """Published weights by open_clip's names of model and tag, a place, or a path. Raises
    UnknownNameError for names that nothing has, CheckpointError for a path of nothing."""
    found = places.weights_named(name, tag)
    if not places.is_place(found):
        published.means_weights(found)
    return found.removeprefix(places.LOCAL)


def _preprocess(options: Options) -> dict[str, object]:
    given = {
        "mean": options.image_mean,
        "std": options.image_std,
        "interpolation": options.image_interpolation,
        "resize": options.image_resize_mode,
    }
    return {name: value for name, value in given.items() if value is not None}


def _changes(options: Options) -> bool:
    context = options.force_context_length is not None
    return bool(_preprocess(options)) or options.force_quick_gelu or context


def _config_of(options: Options) -> ClipConfig:
    """How the model is built, as its weights say it where they do: these may have to be fetched."""
    found = places.find(options.model, options.pretrained or None)
    config = found.config
    if config is None:
        raise ConfigError(
            f"{options.pretrained or options.model} doesn't say how its model is built, so nothing "
            "of it can be changed: name a known architecture as --model"
        )
    return config


def _changed(config: ClipConfig, options: Options) -> ClipConfig:
    given = _preprocess(options)
    if given.get("interpolation") == "random":
        raise ConfigError("--image-interpolation random has no counterpart; choose bicubic")
    for name in ("mean", "std"):
        if isinstance(values := given.get(name), tuple):
            three = values * 3 if len(values) == 1 else values  # open_clip repeats a single one
            if len(three) != 3:
                raise ConfigError(f"--image-{name} takes one number or three, not {len(values)}")
            given[name] = three
    config = replace(config, preprocess=replace(config.preprocess, **given))  # pyright: ignore[reportArgumentType]
    if options.force_context_length is not None:
        text = replace(config.text, context_length=options.force_context_length)
        config = replace(config, text=text)
    return with_activation(config, "quick_gelu") if options.force_quick_gelu else config


def _towers(options: Options) -> tuple[TowerOptions, TowerOptions, list[str]]:
    remarks = list[str]()
    if options.lock_image and not options.lock_image_freeze_bn_stats:
        remarks.append(
            "--lock-image: batch statistics of locked layers stay, too (in open_clip only with "
            "--lock-image-freeze-bn-stats)"
        )
    image, text = options.lock_image, options.lock_text
    for needed, locks, flag, value in (
        ("--lock-image", image, "unlocked-groups", options.lock_image_unlocked_groups),
        ("--lock-image", image, "freeze-bn-stats", options.lock_image_freeze_bn_stats),
        ("--lock-text", text, "unlocked-layers", options.lock_text_unlocked_layers),
        ("--lock-text", text, "freeze-layer-norm", options.lock_text_freeze_layer_norm),
    ):
        if value and not locks:
            remarks.append(f"{needed}-{flag} has no effect without {needed}, as in open_clip")
    image = TowerOptions(
        size=_side(options.force_image_size),
        freeze=options.lock_image,
        unlocked_layers=options.lock_image_unlocked_groups if options.lock_image else 0,
        checkpointing=options.grad_checkpointing,
        patch_dropout=options.force_patch_dropout or 0.0,
        layer_decay=1.0 if options.image_layer_decay is None else options.image_layer_decay,
    )
    text = TowerOptions(
        freeze=options.lock_text,
        unlocked_layers=options.lock_text_unlocked_layers if options.lock_text else 0,
        checkpointing=options.grad_checkpointing,
        layer_decay=1.0 if options.text_layer_decay is None else options.text_layer_decay,
    )
    return image, text, remarks


def _side(size: tuple[int, ...] | None) -> int:
    """Of square pictures; 0: the model's own. Raises ConfigError for others."""
    if not size:
        return 0
    side, *others = size
    if others not in ([], [side]):
        raise ConfigError(
            f"--force-image-size {' '.join(map(str, size))}: towers take squares, one number"
        )
    return side
