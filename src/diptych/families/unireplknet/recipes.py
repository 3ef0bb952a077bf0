"""CLIP with a ConvNet of large kernels, at full size: one training in two stages, two Runs.

Hyper-parameters are those of the published weights' card and, where it is silent, those of the
version of open_clip that it trained with. Neither stage has been run to its end by this project.
"""

from dataclasses import replace

from diptych.config import (
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
    TowerOptions,
)
from diptych.families.unireplknet.pretrained import CLIP_320

INTERVAL = 600
"""Steps of what the card calls an epoch: 45,646,078 samples, rounded up to whole batches of each of
six loaders."""


def clip_unireplknet_l_laion2b() -> Run:
    """CLIP-UniRepLKNet-L, the first three quarters: 8.8 billion samples of LAION-2B at 224 pixels.

    torchrun --nnodes 16 --nproc-per-node 8 -m diptych train clip-unireplknet-l-laion2b \
    --data.path SHARDS

    `SHARDS` are those of laion2B-en, 'laion2b/{000000..231349}.tar'. 192 of the card's 256 "epochs"
    of 45.6 million samples, under one cosine for all; `clip-unireplknet-l-laion2b-320` goes on from
    here. Differs from the original in two things: batch statistics are those of all processes, not
    of each one's 600 pictures; gains and biases of the response norms don't decay, which did since
    they were stored as 4-D tensors.
    Hardware: 128 GPUs of 40 GB, two months with the second stage. (The card says 128 x 8, but its
    batch is 128 x 600.)
    Expected: 75.7 % zero-shot top-1 on ImageNet after both stages (the card's table; its text says
    up to 76.3, the paper, arXiv:2410.08049, 76.6). Nothing was published of the first stage alone.
    """
    tower = TowerOptions(checkpointing=True)
    return Run(
        model=ModelConfig(name="clip-unireplknet-l", image=tower, text=tower),
        data=DataConfig(
            path="laion2b/{000000..231349}.tar",
            resample=True,
            consecutive=256,
            augment=AugmentConfig(scale=(0.9, 1.0)),
            workers=6,
        ),
        optim=OptimConfig(
            lr=5e-4,
            betas=(0.9, 0.99),
            eps=1e-8,
            weight_decay=0.2,
            warmup=10_000,
            max_norm=5.0,
            part=(0.0, 0.75),
        ),
        save=SaveConfig(every_steps=INTERVAL, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=5 * INTERVAL),
        batch_size=76_800,
        steps=192 * INTERVAL,
        precision="bf16",
        out="runs/clip-unireplknet-l-laion2b",
        recipe="clip-unireplknet-l-laion2b",
    )


def clip_unireplknet_l_laion2b_320() -> Run:
    """CLIP-UniRepLKNet-L, the last quarter: 2.9 billion more samples, at 320 pixels.

    torchrun --nnodes 16 --nproc-per-node 8 -m diptych train clip-unireplknet-l-laion2b-320 \
    --data.path SHARDS

    `SHARDS` are those of laion2B-en, 'laion2b/{000000..231349}.tar'. Starts from the weights of
    `clip-unireplknet-l-laion2b` in `runs/` (elsewhere: `--model.init`) and goes on where its cosine
    ended. The moments of the optimiser start anew.
    Hardware: 128 GPUs of 40 GB; a picture has twice as many pixels as in the first stage.
    Expected: 75.7 % zero-shot top-1 on ImageNet (the card's table; its text says up to 76.3, the
    paper, arXiv:2410.08049, 76.6).
    """
    first = clip_unireplknet_l_laion2b()
    return replace(
        first,
        model=replace(first.model, name="", custom=CLIP_320, init=first.out),
        optim=replace(first.optim, part=(0.75, 1.0)),
        steps=64 * INTERVAL,
        seed=1,
        out="runs/clip-unireplknet-l-laion2b-320",
        recipe="clip-unireplknet-l-laion2b-320",
    )
