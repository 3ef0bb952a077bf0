"""UniRepLKNet-S: training form and deploy form, NCHW and channels_last, and timm's ConvNeXt of like
cost. One run.

Every row's peer is named in it. Weights are random, statistics those of one batch; pictures of 224
pixels, float32.
"""

from collections.abc import Callable, Iterator
from functools import partial

import timm
import torch
from torch import Tensor

from benchmarks.compare import Row, seconds
from diptych import pretrained
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.deploy import deploy
from diptych.families.unireplknet.model import ConvBlock, Stage, UniRepLKNet
from diptych.weights.state import State

PEER = "convnext_small"
"""8.7 giga multiply-adds; UniRepLKNet-S has 9.1."""
TRAINING, DEPLOY, NCHW, LAST = "training form", "deploy form", "NCHW", "channels_last"


def rows() -> Iterator[Row]:
    training, deployed = _towers()
    peer = timm.create_model(PEER, num_classes=0).eval()
    peer_last = timm.create_model(PEER, num_classes=0).eval().to(memory_format=torch.channels_last)
    for batch in (1, 8):
        x = torch.randn(batch, 3, 224, 224)
        last = x.contiguous(memory_format=torch.channels_last)
        works: dict[str, Callable[[], Tensor]] = {
            f"{TRAINING}, {NCHW}": partial(_plain, training, x),
            f"{TRAINING}, {LAST}": partial(_pooled, training, x),
            f"{DEPLOY}, {NCHW}": partial(_plain, deployed, x),
            f"{DEPLOY}, {LAST}": partial(_pooled, deployed, x),
            f"{PEER}, {NCHW}": partial(peer, x),
            f"{PEER}, {LAST}": partial(peer_last, last),
        }
        with torch.no_grad():
            expected = _pooled(training, x)
            gaps = {
                name: (work() - expected).abs().max()
                for name, work in works.items()
                if PEER not in name
            }
            taken = dict(zip(works, seconds(*works.values())))
        for ours, theirs in (
            (f"{DEPLOY}, {NCHW}", f"{TRAINING}, {NCHW}"),
            (f"{TRAINING}, {LAST}", f"{TRAINING}, {NCHW}"),
            (f"{DEPLOY}, {LAST}", f"{TRAINING}, {LAST}"),
            (f"{DEPLOY}, {LAST}", f"{DEPLOY}, {NCHW}"),
            (f"{DEPLOY}, {LAST}", f"{TRAINING}, {NCHW}"),
            (f"{DEPLOY}, {LAST}", f"{PEER}, {NCHW}"),
            (f"{DEPLOY}, {LAST}", f"{PEER}, {LAST}"),
        ):
            yield Row(
                name=f"UniRepLKNet-S {ours} (beside {theirs}), batch {batch}",
                unit="/s",
                ours=batch / taken[ours],
                theirs=batch / taken[theirs],
                higher_is_better=True,
                check="" if PEER in theirs else f"differ by {gaps[ours]:.1e}",
            )


def _towers() -> tuple[UniRepLKNet, UniRepLKNet]:
    """The same function in both forms."""
    config = pretrained.tower("unireplknet-s")
    assert isinstance(config, UniRepLKNetConfig)
    training = UniRepLKNet(config, None)
    training.init()
    with torch.no_grad():
        for block in training.blocks:
            if isinstance(block, ConvBlock) and block.scale is not None:
                torch.nn.init.constant_(block.scale, 0.5)
        training.train()(torch.randn(2, 3, 224, 224))
    state, merged = deploy(State.of(training.state_dict()), config)
    deployed = UniRepLKNet(merged, None)
    deployed.load_state_dict(state)
    return training.eval(), deployed.eval()


def _pooled(tower: UniRepLKNet, x: Tensor) -> Tensor:
    return tower(x, tokens="none").pooled


def _plain(tower: UniRepLKNet, x: Tensor) -> Tensor:
    """The tower's function over maps in torch's default layout, which the tower itself never
    uses."""
    for stage in tower.stages:
        assert isinstance(stage, Stage)
        x = stage.down(x).contiguous()
        for block in stage.blocks:
            x = block(x)
    return tower.norm_post(x.mean((2, 3)))
