"""How the matrices of EVA's towers are drawn for masked image modelling: before contrastive
training, and by other tables than that (github.com/baaivision/EVA: EVA-01/eva, EVA-02/asuka).

Norms, gains, biases and tables of positions are as in `EvaTransformer.init`, but where a table says
otherwise.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diptych.families.eva.config import EvaConfig

Draw = Callable[[Tensor], object]
_STD = 0.015
"""EVA-01's standard deviation."""


@torch.no_grad()
def eva01(tower: nn.Module, config: EvaConfig) -> None:
    """EVA-01's table (Fang et al. 2022, arXiv:2211.07636); l counts blocks from 1.

    | parameter               | value                                             |
    | ----------------------- | ------------------------------------------------- |
    | class_token, positions  | N(0, 0.015^2), cut at one standard deviation      |
    | patch.weight, matrices  | the same                                          |
    | attention.out, mlp.down | (weights) that / sqrt(2 l): residual branches     |
    | biases                  | 0                                                 |
    """
    for name, parameter in tower.named_parameters():
        if _is_matrix(name, parameter) or name in ("class_token", "positions"):
            nn.init.trunc_normal_(parameter, std=_STD, a=-_STD, b=_STD)
            parameter.div_(_residual(name))
    _no_patch_bias(tower)


@torch.no_grad()
def eva02(tower: nn.Module, config: EvaConfig) -> None:
    """EVA-02's table (Fang et al. 2023, arXiv:2303.11331).

    | parameter                | value                                                          |
    | ------------------------ | -------------------------------------------------------------- |
    | patch.weight             | Xavier's uniform (Glorot & Bengio 2010)                        |
    | matrices                 | Xavier's normal; of a tower with sub-LN each of the joint ones |
    |                          | (queries, keys, values; gate, up) by itself                    |
    | mlp, attention.out,      | with sub-LN, that x sqrt(ln(2 layers)) (DeepNet's rule for     |
    | values                   | sub-LN, Wang et al. 2022, arXiv:2210.06423)                    |
    | norm_1, norm_2           | of a post-norm tower, gain 0: each block begins as nothing     |
    | biases                   | 0                                                              |
    """
    gain = math.sqrt(math.log(2 * config.layers)) if config.mlp_norm else 1.0
    for name, parameter in tower.named_parameters():
        if name == "patch.weight":
            nn.init.xavier_uniform_(parameter.view(len(parameter), -1))
        elif _is_matrix(name, parameter):
            _xavier(name, parameter, config, gain)
        elif config.norm_place == "post" and name.endswith(("norm_1.weight", "norm_2.weight")):
            parameter.zero_()
    _no_patch_bias(tower)


TABLES: dict[str, Callable[[nn.Module, EvaConfig], None]] = {"eva01": eva01, "eva02": eva02}


def _xavier(name: str, matrix: Tensor, config: EvaConfig, gain: float) -> None:
    """One matrix of a block, or the projection."""
    joint = {"attention.qkv.weight": 3, "mlp.gate_up.weight": 2}
    place = name.partition("blocks.")[2].partition(".")[2]
    apart = place == "mlp.gate_up.weight" or config.mlp_norm  # EVA-01's kind has a joint qkv
    parts = matrix.chunk(joint.get(place, 1) if apart else 1)
    for part in parts:
        nn.init.xavier_normal_(part)
    if place.startswith("mlp.") or place == "attention.out.weight":
        matrix.mul_(gain)
    elif place == "attention.qkv.weight":
        parts[-1].mul_(gain if apart else 1.0)


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and name != "positions"


def _residual(name: str) -> float:
    """sqrt(2 l) for what ends a branch of the l-th block, else 1."""
    if not name.endswith(("attention.out.weight", "mlp.down.weight")):
        return 1.0
    return math.sqrt(2 * (int(name.split(".")[1]) + 1))


def _no_patch_bias(tower: nn.Module) -> None:
    nn.init.zeros_(tower.get_parameter("patch.bias"))
