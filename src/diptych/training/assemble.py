"""From a Run to its state before the first step: model, objective, optimiser."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from diptych import pretrained
from diptych.checkpoints import start_model, start_tower, with_context
from diptych.checkpoints.describe import read_config
from diptych.config import ClipConfig, ModelConfig, Run, TaughtConfig, TowerOptions
from diptych.config.alone import need
from diptych.config.model import Side
from diptych.config.serialize import from_dict, to_dict
from diptych.distributed import Parts, Peers, data_parallel, on_main
from diptych.errors import ConfigError
from diptych.models import Clip, Tower, build
from diptych.nn.norm import batch_norms
from diptych.objectives import Objective, build_objective
from diptych.optim import Group, build_optimizer, decay_groups, layer_lr_scales, norms_and_biases
from diptych.training.average import Average
from diptych.training.state import TrainingState
from diptych.training.teachers import (
    Teachers,
    inherit,
    refuse_text_options,
    student_of,
    teacher_configs,
)

_DEFAULT = "vit-b-32"
"""The model of a run that names none."""
_NO_TEACHERS = Teachers()
_Start = tuple[Clip, Path | None, list[str]]
"""The model, the folder of weights that it starts from as a whole, and what the user should know of
them."""


def assemble(
    run: Run, peers: Peers, teachers: Teachers = _NO_TEACHERS
) -> tuple[TrainingState, torch.nn.Module, list[str]]:
    """The state of a run before its first step, the objective as the peers share it, and what the
    user should know of the weights that it starts from. `teachers`: as `load_teachers` gives
    them."""
    torch.manual_seed(run.seed)
    sharded = is_sharded(run, peers)
    start = _shared_model if sharded else _model
    model, folder, notes = start(run, peers, teachers)
    notes += _useless(run.model)
    if run.shard.mode != "replicate" and not sharded:
        notes.append(f"--shard.mode {run.shard.mode}: a single process has nothing to share")
    objective = objective_of(model, run, teachers.models)
    notes += objective.remarks
    if model.decoder is not None and not model.decoder.trained:
        notes.append("what writes captions stays as it is: --objective coca trains it, too")
    # Shards go to their place one by one; nothing that is to be sharded is whole there before.
    wrapped = data_parallel(
        objective if sharded else objective.to(peers.device),
        peers,
        run.shard,
        parts_of(objective, run),
    )
    average = Average(model, run.ema) if run.ema else None
    groups = parameter_groups(objective, run)
    optimizer = build_optimizer(run.optim, groups)
    scaler = torch.amp.GradScaler(peers.device.type, enabled=run.precision == "fp16")
    return (
        TrainingState(
            objective=objective,
            optimizer=optimizer,
            scaler=scaler,
            average=average,
            groups=groups,
            origin=folder,
            whole=partial(_whole_objective, run, model.config, teachers.configs, peers)
            if sharded
            else None,
        ),
        wrapped,
        notes,
    )


def is_sharded(run: Run, peers: Peers) -> bool:
    """Whether the processes share the run's weights out."""
    return run.shard.mode != "replicate" and peers.size > 1


def _whole_objective(
    run: Run, config: ClipConfig, teachers: Sequence[ClipConfig], peers: Peers
) -> Objective:
    """The run's objective once more, on one device, with room for its numbers."""
    model, *others = (build(each, init=False) for each in (config, *teachers))
    return build_objective(run.objective, model, others).to(peers.device)


def _shared_model(run: Run, peers: Peers, teachers: Teachers) -> _Start:
    """The model on the first process; on the others, which get their shards from it, without
    numbers."""
    made = list[Clip]()

    def describe() -> tuple[dict[str, Any], Path | None, list[str]]:
        model, folder, notes = _model(run, peers, teachers)
        made.append(model)
        return to_dict(model.config), folder, notes

    config, folder, notes = on_main(peers, describe)
    model = made[0] if made else build(from_dict(ClipConfig, config), device="meta")
    return model, folder, notes


def parts_of(objective: Objective, run: Run) -> Parts:
    """Its towers and its decoder, which goes with the text tower: which are recomputed, and whether
    they are compiled."""
    model = objective.model
    texts = [model.text] if model.decoder is None else [model.text, model.decoder]
    checkpointed = [model.image] if run.model.image.checkpointing else []
    checkpointed += texts if run.model.text.checkpointing else []
    every, varying = [model.image, *texts], [*texts]
    if len(set(run.data.patches)) > 1:
        varying.append(model.image)
    for teacher in objective.teachers:
        every += teacher.towers
        varying += [] if teacher.text is None else [teacher.text]
    return Parts(every, checkpointed, run.compile, varying)


def from_checkpoint(config: ModelConfig, folder: Path) -> ModelConfig:
    """A run's model as its checkpoint has it: what it once started from need not be there any
    more."""
    image, text = (
        replace(tower, init="", size=0, context=0) for tower in (config.image, config.text)
    )
    return replace(config, name="", custom=None, init=str(folder), image=image, text=text)


def _model(run: Run, peers: Peers, teachers: Teachers) -> _Start:
    model, folder, notes = _whole_model(run, teachers)
    model.config = budgeted(model.config, run.data.patches)
    notes += _start_towers(model, run.model)
    if inherits_text(run):
        inherit(model, teachers.models[0])
        folder = teachers.folder
    return model, folder, notes


def _whole_model(run: Run, teachers: Teachers) -> _Start:
    config = run.model
    if config.init:
        named = bool(config.custom or config.name)
        chosen = _chosen(run, teachers.configs) if named else None
        return start_model(
            config.init,
            chosen,
            image_size=config.image.size or None,
            context_length=config.text.context or None,
        )
    model = build(described(run, teachers.configs))
    for tower, options in ((model.image, config.image), (model.text, config.text)):
        if options.initial:
            tower.init_as(options.initial)
    return model, None, []


def described(run: Run, teachers: Sequence[ClipConfig] | None = None) -> ClipConfig:
    """The model of a run that starts from no whole model's weights, or has a name beside them.
    `teachers`: theirs, where they are known."""
    chosen = _chosen(run, teacher_configs(run) if teachers is None else teachers)
    for side in get_args(Side):
        need(chosen, side, run.model.name or "the model")
    sized = _sized(chosen, run.model.image.size)
    if context := run.model.text.context:
        sized = with_context(sized, context)
    return run.objective.adapt(budgeted(sized, run.data.patches))


def budgeted(config: ClipConfig, budgets: tuple[int, ...]) -> ClipConfig:
    """The model as it is evaluated and saved after training with these budgets of patches: with its
    own, if that is one of them, else with the largest. Raises ConfigError for one that takes
    squares.

    >>> from diptych import pretrained
    >>> from diptych.training.assemble import budgeted
    >>> naflex = pretrained.get("siglip2-base-patch16-naflex")
    >>> [budgeted(naflex, tried).preprocess.patches for tried in ((), (128, 256, 576), (64, 128))]
    [256, 256, 128]
    """
    if not budgets:
        return config
    if not config.image.native:
        raise ConfigError(
            f"--data.patches {' '.join(map(str, budgets))} is for models that take pictures of "
            "their own aspect; this one takes squares, whose size --model.image.size changes"
        )
    how = config.preprocess
    patches = how.patches if how.patches in budgets else max(budgets)
    return replace(config, preprocess=replace(how, patches=patches))


def _chosen(run: Run, teachers: Sequence[ClipConfig]) -> ClipConfig:
    """The model that the run names; the name of an image tower alone will do where the text tower
    is a teacher's. Raises ConfigError where there is none to have it from."""
    config = run.model
    if not inherits_text(run):
        return config.custom or _described(config.name or _DEFAULT)
    refuse_text_options(run)
    if not teachers:
        raise ConfigError("the objective needs a teacher: name it by --objective.teachers")
    file = Path(config.name).suffix == ".json"
    named = config.custom or (
        _described(config.name) if file else pretrained.entry(config.name or _DEFAULT).config
    )
    if isinstance(named, ClipConfig):
        return student_of(teachers[0], named)
    return replace(teachers[0], image=named)


def _described(name: str) -> ClipConfig:
    """The model of a name, or of a JSON file."""
    found = read_config(name)
    assert found is not None
    return found


def inherits_text(run: Run) -> bool:
    """Whether the run's model has a teacher's text tower."""
    return isinstance(run.objective, TaughtConfig) and run.objective.inherits_text


def _sized(config: ClipConfig, size: int) -> ClipConfig:
    """For pictures of `size` pixels; 0: as it is. Raises ConfigError for a model that takes
    pictures of any size."""
    if size and config.image.native:
        raise ConfigError(
            f"--model.image.size {size}: this model takes pictures of any "
            "size; --data.patches says how many patches a picture has at the most"
        )
    return replace(config, image=replace(config.image, image_size=size)) if size else config


def _useless(config: ModelConfig) -> list[str]:
    """On each tower that is neither trained nor was trained before."""
    return [
        f"the {side} tower is frozen as it was drawn, at random: give it weights "
        f"(--model.init, --model.{side}.init), or train it"
        for side, options in (("image", config.image), ("text", config.text))
        if options.all_frozen and not (options.init or config.init)
    ]


def _start_towers(model: Clip, config: ModelConfig) -> list[str]:
    notes = []
    if config.image.init:
        notes += start_tower(model.image, "image", config.image.init)
    if config.text.init:
        notes += start_tower(model.text, "text", config.text.init)
    return notes


def parameter_groups(objective: Objective, run: Run) -> tuple[Group, ...]:
    """Each tower's parameters as its options have it; then the rest: scale, bias, heads."""
    model, optim, groups = objective.model, run.optim, list[Group]()
    tables = optim.decayed == "tables"
    for side, tower, options in (
        ("image", model.image, run.model.image),
        ("text", model.text, run.model.text),
    ):
        groups += decay_groups(
            tower,
            _no_decay(tower, optim.decayed),
            optim.weight_decay if options.weight_decay is None else options.weight_decay,
            _scales(tower, options, optim.lr),
            vectors=tables,
            title=side,
            prefix=f"model.{side}.",
        )
    groups += decay_groups(
        objective,
        norms_and_biases(objective) if tables else frozenset(),
        optim.weight_decay,
        {"model.logit_scale": optim.scale_lr},
        vectors=tables,
        title="rest",
        besides=(model.image, model.text),
    )
    return tuple(groups)


def _no_decay(tower: Tower[Any], decayed: str) -> frozenset[str]:
    """Names in a tower that don't decay; vectors, which only do with `tables`, may lack."""
    if decayed == "tables":
        return norms_and_biases(tower)
    return frozenset(tower.no_decay) if decayed == "matrices" else frozenset()


def _scales(tower: Tower[Any], options: TowerOptions, lr: float) -> dict[str, float]:
    """Factors on the learning rate by the parameter's name: the tower's, and its layers'."""
    own = 1.0 if options.lr is None else options.lr / lr
    if options.layer_decay == 1:
        return {name: own for name, _ in tower.named_parameters()}
    layers = {name: tower.layer_of(name) for name, _ in tower.named_parameters()}
    by_layer = layer_lr_scales(layers, options.layer_decay)
    return {name: own * scale for name, scale in by_layer.items()}


def objective_of(model: Clip, run: Run, teachers: Sequence[Clip]) -> Objective:
    """The run's objective, of a model that is set up for training. Raises ConfigError where nothing
    of the model is trained but for the scale."""
    _prepare(model.train(), run)
    objective = build_objective(run.objective, model, teachers)
    parts = model.children()  # towers and decoder
    if not any(each.requires_grad for part in parts for each in part.parameters()):
        raise ConfigError(
            "--model.image.freeze and --model.text.freeze together leave nothing to train"
        )
    return objective


def _prepare(model: Clip, run: Run) -> None:
    """Set up its towers for training as the run's options say: what is frozen, dropped."""
    for tower, options in ((model.image, run.model.image), (model.text, run.model.text)):
        _lock(tower, options)
        if options.freeze_patches:
            tower.freeze_patches()
        if options.patch_gradient != 1:
            tower.set_patch_gradient(options.patch_gradient)
        if options.patch_dropout:
            tower.set_patch_dropout(options.patch_dropout)
        if options.stochastic_depth:
            tower.set_stochastic_depth(options.stochastic_depth)


def _lock(tower: Tower[Any], options: TowerOptions) -> None:
    """Freeze what isn't to be trained, batch statistics too."""
    if options.all_frozen:
        tower.requires_grad_(False).eval()
    if not options.unlocked_layers:
        return
    groups = tower.layer_groups()
    if options.unlocked_layers > len(groups):
        raise ConfigError(
            f"unlocked_layers {options.unlocked_layers}: a {type(tower).__name__} of this depth "
            f"has {len(groups)} groups of layers"
        )
    locked = set[str]().union(*groups[: -options.unlocked_layers])
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(name not in locked)
    for norm in batch_norms(tower):
        if not any(parameter.requires_grad for parameter in norm.parameters()):
            norm.eval()
