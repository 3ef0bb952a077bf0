"""CLIP's recipes at full size, SigLIP's and LiT's. The data is yours: every command sets
`--data.path`.

Hyper-parameters are the papers'; the batch is the global one, whatever the number of processes.
None of these has been run to its end by this project: the expected results are the papers', with
their sources.
"""

from dataclasses import replace

from diptych.config import (
    AugmentConfig,
    DataConfig,
    DistillObjectiveConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
    SiglipObjectiveConfig,
    TowerOptions,
)


def clip_vit_b_32() -> Run:
    """CLIP with a ViT-B/32: 32 epochs of batch 32,768 (Radford et al. 2021, arXiv:2103.00020,
    appendix F).

    torchrun --nproc-per-node 8 -m diptych train clip-vit-b-32 --data.path 'shards/{0000..9999}.tar'

    Hardware: 8 GPUs of 80 GB; with less memory set --micro-batch, the result stays the same.
    Expected: 63.2 % top-1 on ImageNet with OpenAI's 400 million pairs (the same paper, table 11).
    """
    return Run(
        model=ModelConfig(name="vit-b-32"),
        data=DataConfig(
            path="shards/{0000..9999}.tar", augment=AugmentConfig(scale=(0.9, 1.0)), workers=8
        ),
        optim=OptimConfig(lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, warmup=2000),
        save=SaveConfig(every_steps=0, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=5000),
        batch_size=32768,
        epochs=32.0,
        precision="bf16",
        out="runs/clip-vit-b-32",
        recipe="clip-vit-b-32",
    )


def clip_vit_b_16() -> Run:
    """CLIP with a ViT-B/16 (arXiv:2103.00020, appendix F); otherwise as clip-vit-b-32.

    torchrun --nproc-per-node 8 -m diptych train clip-vit-b-16 --data.path 'shards/{0000..9999}.tar'

    Hardware: 8 GPUs of 80 GB.
    Expected: 68.6 % top-1 on ImageNet with OpenAI's 400 million pairs (the same paper, table 11).
    """
    return _like_b_32("clip-vit-b-16", ModelConfig(name="vit-b-16"))


def clip_vit_l_14() -> Run:
    """CLIP with a ViT-L/14: a lower learning rate, activations recomputed (arXiv:2103.00020,
    appendix F).

    torchrun --nnodes 8 --nproc-per-node 8 -m diptych train clip-vit-l-14 --data.path \
    'shards/{0000..9999}.tar'

    Hardware: 64 GPUs of 80 GB.
    Expected: 75.3 % top-1 on ImageNet with OpenAI's 400 million pairs (the same paper, table 11).
    """
    image = text = TowerOptions(checkpointing=True)
    run = _like_b_32("clip-vit-l-14", ModelConfig(name="vit-l-14", image=image, text=text))
    return replace(run, optim=replace(run.optim, lr=4e-4))


def clip_rn50() -> Run:
    """CLIP with the modified ResNet-50 (arXiv:2103.00020, appendix F).

    torchrun --nproc-per-node 8 -m diptych train clip-rn50 --data.path 'shards/{0000..9999}.tar'

    Hardware: 8 GPUs of 80 GB.
    Expected: 59.6 % top-1 on ImageNet with OpenAI's 400 million pairs (the same paper, table 11).
    """
    run = _like_b_32("clip-rn50", ModelConfig(name="rn50"))
    return replace(run, optim=replace(run.optim, betas=(0.9, 0.999), eps=1e-8))


def siglip_vit_b_16() -> Run:
    """The sigmoid loss with a ViT-B/16 (Zhai et al. 2023, arXiv:2303.15343, §4).

    torchrun --nproc-per-node 8 -m diptych train siglip-vit-b-16 --data.path \
    'shards/{0000..9999}.tar'

    Hardware: 8 GPUs of 80 GB; the loss needs batches of a few thousand only.
    Expected: near clip-vit-b-16 on the same pairs, ahead of it at small batches (the paper's figure
    2).
    """
    run = _like_b_32("siglip-vit-b-16", ModelConfig(name="vit-b-16"))
    optim = replace(
        run.optim, lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-4, warmup=2000, max_norm=1.0
    )
    return replace(run, objective=SiglipObjectiveConfig(), optim=optim, batch_size=16384)


def lit_vit_b_32() -> Run:
    """A text tower learns to read a finished, frozen image tower (LiT: Zhai et al. 2022,
    arXiv:2111.07991).

    torchrun --nproc-per-node 8 -m diptych train lit-vit-b-32 --model.init WEIGHTS --data.path \
    'shards/{0000..9999}.tar'

    `WEIGHTS` are those whose image tower is kept; without it the frozen tower is random and
    useless.
    Hardware: one GPU of 24 GB and more; the image tower needs no gradient.
    Expected: bounded by the image tower; no figure of the paper is for this size and this data.
    """
    run = _like_b_32("lit-vit-b-32", ModelConfig(name="vit-b-32", image=TowerOptions(freeze=True)))
    optim = replace(run.optim, lr=1e-3, weight_decay=1e-4, warmup=1000, max_norm=1.0)
    return replace(run, optim=optim, batch_size=16384, epochs=5.0)


def clip_vit_b_16_distilled() -> Run:
    """A ViT-B/16 learns from two ViT-L/14 whose vectors are stored, in MobileCLIP's setting for
    12.8 million pairs (DataCompDR-12M: Vasu et al. 2023, arXiv:2311.17049; the batch, rates and
    weights are those of `run_datacompdr12m.sh` in github.com/apple/ml-mobileclip).

    diptych reinforce 'datacomp-12m/{00000000..00001023}.tar' --teacher ViT-L-14/openai \
    ViT-L-14/datacomp_xl_s13b_b90k --crops 30 --vectors bfloat16 --data.augment.scale 0.08 1 --out \
    vectors

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train clip-vit-b-16-distilled --data.path \
    'datacomp-12m/{00000000..00001023}.tar' --objective.reinforced vectors

    As published, both softmaxes of the teachers have temperature 0.01 and the pairs' own contrast
    weighs nothing. What the published data have besides isn't here: five synthetic captions of each
    picture (captions that lie in the shards are taken as they are), and RandAugment on the crops.
    Hardware: 32 GPUs, as published; no teacher is in their memory.
    Expected: no figure is for this setting without the synthetic captions; with them, see the
    paper's tables of DataCompDR-12M.
    """
    run = _like_b_32("clip-vit-b-16-distilled", ModelConfig(name="vit-b-16"))
    optim = replace(run.optim, lr=1e-3, betas=(0.9, 0.95), warmup=1000, max_norm=1.0)
    return replace(
        run,
        objective=DistillObjectiveConfig(
            reinforced="vectors", weight=1.0, temperatures=(0.01, 0.01)
        ),
        data=replace(
            run.data,
            path="datacomp-12m/{00000000..00001023}.tar",
            augment=AugmentConfig(scale=(0.08, 1.0)),
            resample=True,
        ),
        optim=optim,
        batch_size=8192,
        steps=30_000,
        epochs=0.0,
    )


def _like_b_32(name: str, model: ModelConfig) -> Run:
    return replace(clip_vit_b_32(), model=model, out=f"runs/{name}", recipe=name)
