"""ImageNet in a training loop, as open_clip_train does it: classes from captions."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diptych.compat.loading.precision import get_input_dtype
from diptych.compat.open_clip_train.driven import blank_batch, driven, shares_evaluation
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.task.base_task import get_model_from_task, measured_model
from diptych.compat.task.batches import moved, rows_of
from diptych.compat.tokenizer import get_tokenizer
from diptych.compat.zero_shot_classifier import build_zero_shot_classifier
from diptych.compat.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from diptych.errors import ConfigError

_SETS = {"imagenet-val": "imagenet", "imagenet-v2": "imagenetv2"}


def accuracy(
    output: Float[Tensor, "pictures classes"],
    target: Int[Tensor, " pictures"],
    topk: Sequence[int] = (1,),
) -> list[float]:
    """How many pictures have their class among the first k, for each k.

    >>> import torch
    >>> from diptych.compat.open_clip_train.zero_shot import accuracy
    >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]), (1, 2))
    [1.0, 2.0]
    """
    found = output.topk(max(topk), 1).indices == target[:, None]
    return [float(found[:, :k].sum()) for k in topk]


@torch.no_grad()
def run(
    model: Any,
    classifier: Float[Tensor, "width classes"],
    dataloader: Iterable[tuple[Any, Tensor]] | None,
    args: Any,
    use_fsdp_eval: bool = False,
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy over batches of pictures and classes; `classifier`: of
    `build_zero_shot_classifier`. `args` has `device` and `precision`. `use_fsdp_eval`: a model in
    shards, a task, is run by all processes, over the first one's batches (`args.rank`); the
    others need no loader, and get zeros."""
    device, dtype = torch.device(args.device), get_input_dtype(args.precision)
    autocast = get_autocast(args.precision, device.type, fsdp=use_fsdp_eval)
    measured = measured_model(model)
    hits, count = [0.0, 0.0], 0

    def blank() -> tuple[Any, None]:
        return blank_batch(model, device, dtype)["image"], None

    for images, target in driven(dataloader, args, use_fsdp_eval, blank):
        with autocast():
            output = measured(image=moved(images, device, dtype))
            if target is None:
                continue
            vectors = output["image_features"] if isinstance(output, dict) else output[0]
            logits = vectors @ classifier.to(vectors.dtype)
        found = accuracy(logits, target.to(device), (1, min(5, logits.shape[1])))
        hits = [before + each for before, each in zip(hits, found, strict=True)]
        count += rows_of(images)
    return (hits[0] / count, hits[1] / count) if count else (0.0, 0.0)


run_zero_shot_classifier = run
"""The name of open_clip's main branch."""


def zero_shot_eval(
    model: Any, data: dict[str, Any], epoch: int, args: Any, tokenizer: Any = None
) -> dict[str, float]:
    """Top-1 and top-5 accuracy on `imagenet-val` and `imagenet-v2` of `data`, every
    `args.zeroshot_frequency` epochs and after the last; else nothing. `model`: also in DDP, or a
    task. Of a model without `encode_text` nothing is measured, which the log says. Raises
    ConfigError for one that sees no pictures."""
    names = [name for name in _SETS if name in data]
    if not names:
        return {}
    parts = dir(get_model_from_task(model))
    if not {"visual", "encode_image"}.issubset(parts):
        raise ConfigError(
            "ImageNet zero-shot evaluation is of pictures, and this model has no image tower: "
            "leave imagenet-val and imagenet-v2 out"
        )
    if "encode_text" not in parts:
        logging.warning("zero-shot: left out, as the model has no text tower (no `encode_text`)")
        return {}
    often = args.zeroshot_frequency
    if not often or (epoch % often and epoch != args.epochs):
        return {}
    device, shared = torch.device(args.device), shares_evaluation(args)
    tokenizer = tokenizer or get_tokenizer(args.model)
    logging.info("zero-shot: vectors of the classes")
    with get_autocast(args.precision, device.type, fsdp=shared)():
        classifier = build_zero_shot_classifier(
            model,
            tokenizer=tokenizer,
            classnames=IMAGENET_CLASSNAMES,
            templates=OPENAI_IMAGENET_TEMPLATES,
            device=device,
        )
    results = dict[str, float]()
    for name in names:
        logging.info("zero-shot: %s", name)
        top1, top5 = run_zero_shot_classifier(
            model, classifier, data[name].dataloader, args, use_fsdp_eval=shared
        )
        results[f"{_SETS[name]}-zeroshot-val-top1"] = top1
        results[f"{_SETS[name]}-zeroshot-val-top5"] = top5
    return results
