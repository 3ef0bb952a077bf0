"""DeCLIP's family (Li et al. 2021, arXiv:2110.05208; Cui et al. 2022, arXiv:2203.05796): five
methods on YFCC15M, two towers, and DeCLIP on 88 million pairs.

Optimiser, rates, steps, batch, crops and the losses' weights are those of the configurations in
github.com/Sense-GVT/DeCLIP; where its code does what seems no intention, these do the sound thing,
and the `-as-published` ones beside them what the code does: docs/declip.md has the table. None has
been run to its end by this project.

`SHARDS` are YFCC15M's as img2dataset writes them; DeCLIP's own `.json` of lines is a table, with
`--data.image-root`. Hardware, where no other is named: 32 GPUs as in the original, 128 pairs each;
or fewer, with --micro-batch for a ViT.
"""

from dataclasses import replace

from diptych.config import (
    AugmentConfig,
    ClipObjectiveConfig,
    DataConfig,
    DeclipObjectiveConfig,
    DefilipObjectiveConfig,
    EvaluationConfig,
    FilipObjectiveConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    Run,
    SaveConfig,
    SlipObjectiveConfig,
    TokenPairsConfig,
)

STEPS = 128_001
"""Of 4096 pairs: 34 passes over 15,388,848. The README says 32 epochs."""
WORDS = TokenPairsConfig(mask_padding=True)
"""What stands behind a caption's end is no word."""


def clip_vit_b_32_yfcc15m() -> Run:
    """CLIP with a ViT-B/32 on YFCC15M: the baseline of DeCLIP's benchmark (arXiv:2203.05796).

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train clip-vit-b-32-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 32.8 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _yfcc15m("clip-vit-b-32-yfcc15m", ClipObjectiveConfig())


def clip_rn50_yfcc15m() -> Run:
    """CLIP with the modified ResNet-50 on YFCC15M; otherwise as clip-vit-b-32-yfcc15m.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train clip-rn50-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 37.2 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _yfcc15m("clip-rn50-yfcc15m", ClipObjectiveConfig())


def slip_vit_b_32_yfcc15m() -> Run:
    """SLIP with a ViT-B/32 on YFCC15M: half the rate of CLIP's, five times its weight decay.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train slip-vit-b-32-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 34.3 % zero-shot top-1 on ImageNet (DeCLIP's README; SLIP's authors had 42.8 with a
    ViT-B/16 on another 15 million of YFCC).
    """
    return _gentle(_yfcc15m("slip-vit-b-32-yfcc15m", SlipObjectiveConfig()))


def slip_rn50_yfcc15m() -> Run:
    """SLIP with the modified ResNet-50 on YFCC15M: the one of DeCLIP's two whose code can run.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train slip-rn50-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 28.5 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _gentle(_yfcc15m("slip-rn50-yfcc15m", SlipObjectiveConfig()))


def filip_vit_b_32_yfcc15m() -> Run:
    """FILIP with a ViT-B/32 on YFCC15M, by tokens and by whole vectors: half CLIP's rate, five
    times its weight decay.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train filip-vit-b-32-yfcc15m --data.path \
    SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 39.5 % zero-shot top-1 on ImageNet, asked token by token (DeCLIP's README).
    """
    return _gentle(_yfcc15m("filip-vit-b-32-yfcc15m", FilipObjectiveConfig(tokens=WORDS)))


def filip_rn50_yfcc15m() -> Run:
    """FILIP with the modified ResNet-50 on YFCC15M; otherwise as filip-vit-b-32-yfcc15m.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train filip-rn50-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 21.3 % zero-shot top-1 on ImageNet, asked token by token (DeCLIP's README).
    """
    return _gentle(_yfcc15m("filip-rn50-yfcc15m", FilipObjectiveConfig(tokens=WORDS)))


def declip_vit_b_32_yfcc15m() -> Run:
    """DeCLIP with a ViT-B/32 on YFCC15M.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train declip-vit-b-32-yfcc15m --data.path \
    SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 43.2 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _yfcc15m("declip-vit-b-32-yfcc15m", DeclipObjectiveConfig())


def declip_rn50_yfcc15m() -> Run:
    """DeCLIP with the modified ResNet-50 on YFCC15M; otherwise as declip-vit-b-32-yfcc15m.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train declip-rn50-yfcc15m --data.path SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 44.4 % zero-shot top-1 on ImageNet (DeCLIP's README; the paper, arXiv:2110.05208, has
    41.9).
    """
    return _yfcc15m("declip-rn50-yfcc15m", DeclipObjectiveConfig())


def defilip_vit_b_32_yfcc15m() -> Run:
    """DeFILIP with a ViT-B/32 on YFCC15M: DeCLIP's losses and FILIP's (arXiv:2203.05796).

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train defilip-vit-b-32-yfcc15m --data.path \
    SHARDS

    Hardware: 32 GPUs in the original.
    Expected: 45.0 % zero-shot top-1 on ImageNet, asked by whole vectors (DeCLIP's README).
    """
    return _yfcc15m("defilip-vit-b-32-yfcc15m", DefilipObjectiveConfig(tokens=WORDS))


def declip_vit_b_32_88m() -> Run:
    """DeCLIP with a ViT-B/32 on 88 million pairs, 59 million of which were never released: give
    your own.

    torchrun --nnodes 10 --nproc-per-node 8 -m diptych train declip-vit-b-32-88m --data.path SHARDS

    Batch and epochs are the paper's (arXiv:2110.05208), which trained its ViT by AdamW; the rest is
    YFCC15M's recipe.
    Hardware: 80 GPUs of 32 GB in the original.
    Expected: 66.2 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _88m(declip_vit_b_32_yfcc15m(), "declip-vit-b-32-88m")


def declip_rn50_88m() -> Run:
    """DeCLIP with the modified ResNet-50 on 88 million pairs; otherwise as declip-vit-b-32-88m.

    torchrun --nnodes 10 --nproc-per-node 8 -m diptych train declip-rn50-88m --data.path SHARDS

    The paper moved this image tower by SGD and the text tower by AdamW; here AdamW moves both.
    Hardware: 80 GPUs of 32 GB in the original.
    Expected: 62.5 % zero-shot top-1 on ImageNet (DeCLIP's README).
    """
    return _88m(declip_rn50_yfcc15m(), "declip-rn50-88m")


def _yfcc15m(name: str, objective: ObjectiveConfig) -> Run:
    """The published model of that name, trained by what the nine configurations have in common."""
    return Run(
        model=ModelConfig(name=name),
        objective=objective,
        data=DataConfig(
            path="yfcc15m/{00000..01538}.tar", augment=AugmentConfig(scale=(0.5, 1.0)), workers=8
        ),
        optim=OptimConfig(
            lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1, warmup=2500, start_lr=1e-4
        ),
        save=SaveConfig(every_steps=500, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=2000),
        batch_size=4096,
        steps=STEPS,
        precision="bf16",
        out=f"runs/{name}",
        recipe=name,
    )


def _gentle(run: Run) -> Run:
    """SLIP's and FILIP's rate and decay."""
    return replace(run, optim=replace(run.optim, lr=5e-4, weight_decay=0.5))


def _88m(run: Run, name: str) -> Run:
    data = replace(run.data, path="88m/{00000..08799}.tar")
    return replace(
        run,
        model=ModelConfig(name=name),
        data=data,
        batch_size=10_240,
        steps=0,
        epochs=32.0,
        out=f"runs/{name}",
        recipe=name,
    )
