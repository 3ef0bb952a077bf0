"""Objectives as the recorded ones were configured, with their weights."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.batch import Batch
from diptych.config import (
    ClipConfig,
    ObjectiveConfig,
    SimClrConfig,
    SimSiamConfig,
    SlipObjectiveConfig,
)
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig
from diptych.families.declip import layouts as declip
from diptych.families.declip.published_config import (
    PublishedClipObjectiveConfig,
    PublishedDeclipObjectiveConfig,
    PublishedDefilipObjectiveConfig,
    PublishedFilipObjectiveConfig,
    PublishedTokenPairsConfig,
)
from diptych.inputs import DeclipTokenizer
from diptych.inputs.masking import IGNORE_INDEX, MaskedTokens, mask_tokens
from diptych.models import build
from diptych.objectives import DeclipObjective, Objective, build_objective
from diptych.weights.mapping import SCALAR, Rule, Table, rows
from diptych.weights.state import State
from tests import goldens

LEAST, MOST = math.exp(3), math.exp(6)
CAPPED = PublishedClipObjectiveConfig(
    min_logit_scale=LEAST, max_logit_scale=MOST, largest_scale_used=100.0, clamp_before_step=True
)
UNCAPPED = replace(CAPPED, largest_scale_used=None)
HEADS = (
    Rule("tokens.logit_scale", "logit_scale_dense", SCALAR),
    Rule("word_head.*", "text_label_predictor.*"),
    *rows(
        "self_supervision.head.",
        "predictor_sim.",
        *(
            (f"{place}.*", name)
            for place, name in zip(
                (0, 1, 3, 4, 6), ("linear1.*", "bn1.*", "linear2.*", "bn2.*", "linear3.*")
            )
        ),
    ),
    *rows(
        "self_supervision.projector.",
        "projector.",
        *((f"{3 * i}.*", f"linear{i + 1}.*") for i in range(3)),
        *((f"{3 * i + 1}.*", f"bn{i + 1}.*") for i in range(3)),
    ),
    *rows(
        "self_supervision.predictor.",
        "predictor.",
        ("0.*", "linear1.*"),
        ("1.*", "bn1.*"),
        ("3.*", "layer2.*"),
    ),
)
UNUSED = ("predictor_sim.bn3.*", "visual.fc.*", "*.attn_mask")


def model_config(config: Mapping[str, Any]) -> ClipConfig:
    image, text = config["image"], config["text"]
    words = TextConfig(
        context_length=text["context_length"],
        vocab_size=49409,
        width=text["transformer_width"],
        layers=text["transformer_layers"],
        heads=text["transformer_heads"],
        mlp_width=4 * text["transformer_width"],
        activation="quick_gelu",
        projection_bias=True,
    )
    if "patch_size" in image:
        tower = VitConfig(
            image_size=image["input_resolution"],
            patch_size=image["patch_size"],
            width=image["width"],
            layers=image["layers"],
            heads=image["heads"],
            mlp_width=4 * image["width"],
            activation="quick_gelu",
        )
    else:
        first, second, third, fourth = image["layers"]
        tower = ResNetConfig(
            image_size=image["input_resolution"],
            layers=(first, second, third, fourth),
            width=image["width"],
            heads=image["heads"],
        )
    token_dim = config.get("clip", {}).get("dense_embed_dim")
    return ClipConfig(image=tower, text=words, embed_dim=text["embed_dim"], token_dim=token_dim)


def objective_config(config: Mapping[str, Any]) -> ObjectiveConfig:
    """As published, named option by named option."""
    weights, clip = config.get("loss_weight", {}), config.get("clip", {})
    tokens = PublishedTokenPairsConfig(
        keep=clip.get("top_k", 16),
        min_logit_scale=LEAST,
        max_logit_scale=MOST,
        clamp_before_step=True,
    )
    match config["method"].split("_")[0]:
        case "clip":
            return CAPPED
        case "slip":
            slip = config["slip"]
            head = SimClrConfig(
                hidden=slip["projection_hidden_dim"],
                out=slip["sim_dim"],
                temperature=config["simclr_temperature"],
            )
            return SlipObjectiveConfig(
                pairs=UNCAPPED, views=head, views_weight=float(weights["simclr_loss"])
            )
        case "filip":
            return PublishedFilipObjectiveConfig(
                pairs=UNCAPPED,
                tokens=tokens,
                pairs_weight=float(weights["clip_loss"]),
                tokens_weight=float(weights["clip_dense_loss"]),
                contrast_masked=True,
            )
        case method:
            shared = {
                "pairs": CAPPED,
                "views": SimSiamConfig(
                    width=config["projector_dims"][1], hidden=config["predictor_dims"][1]
                ),
                "pairs_weight": weights["clip_loss"],
                "views_weight": weights["simsiam_loss"],
                "words_weight": weights["masking_language"],
                "neighbours_weight": weights["nn_text"],
                "queue": clip["nn_size"],
                "share_queue": False,
                "share_words": False,
                "contrast_masked": True,
            }
            if method == "declip":
                return PublishedDeclipObjectiveConfig(**shared)
            return PublishedDefilipObjectiveConfig(
                **shared, tokens=tokens, tokens_weight=weights["filip"]
            )


def objective(record: Mapping[str, Any]) -> Objective:
    """With its recorded weights, in training."""
    config = record["config"]
    made = build_objective(objective_config(config), build(model_config(config)))
    made.load_state_dict(state(record["state_dict"], made), strict=False)
    if isinstance(made, DeclipObjective):
        made.queue.rows.copy_(bank(*made.queue.rows.shape, goldens.seed_in(record["bank_recipe"])))
    return made.train()


def state(shapes: Mapping[str, Any], made: Objective) -> dict[str, Tensor]:
    """Every recorded weight under our names; what isn't used by published code either is left
    out."""
    table = names(shapes)
    ours = dict(table.to_ours(goldens.weights(shapes)))
    expected = made.state_dict()
    unheard = {"queue.rows", "queue.place"}
    # FILIP's published class makes a word head that it never calls.
    surplus = (
        {name for name in ours if name.startswith("word_head.")}
        if not hasattr(made, "word_head")
        else set()
    )
    assert ours.keys() - surplus == expected.keys() - unheard
    return {name: tensor for name, tensor in ours.items() if name not in surplus}


def names(shapes: Mapping[str, Any]) -> Table:
    """Published names <-> names in our objective's state."""
    towers = declip.table(on_meta(shapes)).rules
    inside = tuple(Rule(f"model.{rule.ours}", rule.foreign, rule.change) for rule in towers)
    return Table(rules=(*inside, *HEADS), ignored=UNUSED)


def on_meta(shapes: Mapping[str, Any]) -> State:
    """Tensors of these shapes, without numbers."""
    kinds = {
        name: torch.long if name.endswith("num_batches_tracked") else torch.float for name in shapes
    }
    return State.of(
        {
            name: torch.empty(shape, dtype=kinds[name], device="meta")
            for name, shape in shapes.items()
        }
    )


def bank(size: int, width: int, seed: int) -> Tensor:
    columns = goldens.normal(seed, (width, size))
    return torch.from_numpy((columns / np.linalg.norm(columns, axis=0)).T.copy())


def batch(record: Mapping[str, Any], seed: int | None = None) -> Batch:
    """The recorded inputs, or those of another seed: as many channels as the method has views."""
    seed = goldens.seed_in(record["image_recipe"]) if seed is None else seed
    config, ids = record["config"], record.get("masked_token_ids", record.get("token_ids"))
    size, rows_ = config["image"]["input_resolution"], len(ids)
    method = config["method"].split("_")[0]
    views = {"clip": 1, "slip": 3}.get(method, 2)
    pixels = torch.from_numpy(goldens.normal(seed, (rows_, 3 * views, size, size))).split(3, dim=1)
    texts = [torch.tensor(ids)] + (
        [torch.tensor(record["aug_token_ids"])] if "aug_token_ids" in record else []
    )
    mlm_labels = torch.tensor(record["mlm_labels"]) if "mlm_labels" in record else None
    pictures = pixels[:1] if method == "filip" else pixels
    return Batch(
        images=tuple(pictures), texts=tuple(texts), index=torch.arange(rows_), mlm_labels=mlm_labels
    )


def mask_words(ids: list[int]) -> MaskedTokens:
    """As published: every draw is torch's, over the whole caption, padding aside."""
    special = torch.tensor([number in DeclipTokenizer.special_ids for number in ids])
    draws = {
        "chosen": torch.bernoulli(torch.full((len(ids),), 0.15).masked_fill(special, 0.0)).bool(),
        "masked": torch.bernoulli(torch.full((len(ids),), 0.8)).bool(),
        "replaced": torch.bernoulli(torch.full((len(ids),), 0.5)).bool(),
        "random_ids": torch.randint(DeclipTokenizer.vocab_size, (len(ids),)),
    }
    return mask_tokens(
        ids,
        **{name: drawn.tolist() for name, drawn in draws.items()},
        mask_id=DeclipTokenizer.mask_id,
    )


def masked_captions(record: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The recorded captions with other words masked, and their labels, drawn from torch's
    generator."""
    masked, labels = torch.tensor(record["masked_token_ids"]), torch.tensor(record["mlm_labels"])
    found, words = torch.zeros_like(masked), torch.full_like(masked, IGNORE_INDEX)
    for row, ids in enumerate(torch.where(labels == IGNORE_INDEX, masked, labels)):
        length = int((ids != 0).sum())
        masked = mask_words(ids[:length].tolist())
        found[row, :length], words[row, :length] = (
            torch.tensor(masked.ids),
            torch.tensor(masked.labels),
        )
    return found, words
