"""What open_clip_train measures after an epoch: pairs held back, and ImageNet."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.compat.loading.precision import get_input_dtype
from diptych.compat.loss import ClipLoss
from diptych.compat.model_traits import unwrap_model
from diptych.compat.naflex_genlip_model import GenLipModel
from diptych.compat.open_clip_train.distributed import is_master
from diptych.compat.open_clip_train.driven import blank_batch, driven, shares_evaluation
from diptych.compat.open_clip_train.metrics import (
    get_clip_metrics,
    maybe_compute_generative_loss,
)
from diptych.compat.open_clip_train.pairs import named
from diptych.compat.open_clip_train.precision import get_autocast
from diptych.compat.open_clip_train.tracking import track
from diptych.compat.open_clip_train.zero_shot import zero_shot_eval
from diptych.compat.task.base_task import get_model_from_task, measured_model
from diptych.compat.task.batches import moved
from diptych.compat.task.coca_task import pad_id_of
from diptych.compat.task.image_text import ImageTextTask


def evaluate(
    model: Any,
    data: dict[str, Any],
    epoch: int,
    args: Any,
    tb_writer: Any = None,
    tokenizer: Any = None,
) -> dict[str, float]:
    """`zero_shot_eval`'s accuracies, and every `args.val_frequency` epochs and after the last the
    loss and the retrieval of `data["val"]`, or of GenLIP the captions' loss alone; in the first
    process alone. `model`: also in DDP, or a task, and it gives dicts. Where a task averages
    weights, the averages are measured. A task in shards (`args.fsdp`) is evaluated by all
    processes, over the first one's data, and the others get nothing; all have the same names in
    `data`.

    With `args.save_logs` a line goes to the end of `results.jsonl` in `args.checkpoint_path`.
    """
    if not (is_master(args) or shares_evaluation(args)):
        return {}
    model.eval()
    found = zero_shot_eval(model, data, epoch, args, tokenizer=tokenizer)
    often = args.val_frequency
    if "val" in data and often and (epoch % often == 0 or epoch == args.epochs):
        only_captions = isinstance(get_model_from_task(model), GenLipModel)
        of_batches = _of_captions if only_captions else _of_pairs
        found |= {**of_batches(model, data["val"].dataloader, args), "epoch": epoch}
    if not found or not is_master(args):
        return {}
    said = "\t".join(f"{name}: {value:.4f}" for name, value in found.items())
    logging.info("Eval Epoch: %d %s", epoch, said)
    of_values = {f"val/{name}": value for name, value in found.items()}
    track(of_values, epoch, args, tb_writer)
    if vars(args).get("save_logs"):
        with Path(args.checkpoint_path, "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
    return found


@torch.no_grad()
def _of_captions(model: Any, loader: Any, args: Any) -> dict[str, float]:
    """The mean loss of batches of a model that compares nothing."""
    device, losses, count = torch.device(args.device), 0.0, 0
    shared, dtype = shares_evaluation(args), get_input_dtype(args.precision)
    autocast = get_autocast(args.precision, device.type, fsdp=shared)
    measured = measured_model(model)
    for batch in driven(loader, args, shared, lambda: blank_batch(model, device, dtype)):
        given = moved(named(batch, ("image", "text")), device, dtype)
        with autocast():
            found = measured(
                given["image"], given["text"], text_valid=given.get("text_valid"), compute_loss=True
            )
        losses += found["caption_loss_ce"].item() * len(given["text"])
        count += len(given["text"])
    return {"val_generative_loss": losses / count, "num_samples": count}


@torch.no_grad()
def _of_pairs(model: Any, loader: Any, args: Any) -> dict[str, float]:
    """The mean loss of batches, and how all pairs are found among all."""
    device = torch.device(args.device)
    shared, dtype = shares_evaluation(args), get_input_dtype(args.precision)
    autocast = get_autocast(args.precision, device.type, fsdp=shared)
    pad_id = pad_id_of(measured_model(model))
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    losses, captions, count = 0.0, None, 0
    for batch in driven(loader, args, shared, lambda: blank_batch(model, device, dtype)):
        given = moved(named(batch, ("image", "text")), device, dtype)
        texts = given["text"]
        with autocast():
            output = _output(model, given)
            vectors = (output["image_features"], output["text_features"])
            loss = ClipLoss()(*vectors, output["logit_scale"].mean())
            written = maybe_compute_generative_loss(output, texts, given.get("text_valid"), pad_id)
        losses += loss.item() * len(texts)
        if written is not None:
            captions = (captions or 0.0) + written.item() * len(texts)
        count += len(texts)
        for kept, each in zip(rows, vectors, strict=True):
            kept.append(each.float().cpu())
    found = {**get_clip_metrics(*rows), "clip_val_loss": losses / count, "num_samples": count}
    return found if captions is None else found | {"val_generative_loss": captions / count}


def _output(model: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the measured model gives of pairs; a task says what else its model is told."""
    measured, task = measured_model(model), unwrap_model(model)
    if isinstance(task, ImageTextTask):
        return measured(**task.model_inputs(batch))
    return measured(batch["image"], batch["text"])
