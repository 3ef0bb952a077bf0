"""CoCa's recipes: the demonstration's digits on two CPU cores, the paper's, and open_clip's for
captions of weights that are there. The two at full size haven't been run to their end by this
project."""

from diptych.config import (
    AugmentConfig,
    CocaObjectiveConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
)


def tiny_coca_digits(folder: str = "demo") -> Run:
    """A tiny CoCa writes of coloured handwritten digits, from nothing, on two CPU cores.

    diptych demo
    diptych train tiny-coca-digits

    `folder` is where `diptych demo` puts its shards (`folder/data`) and where the run goes
    (`folder/coca`).
    Hardware: two CPU cores, about half an hour.
    Expected: captions are whole sentences, nine in ten with the right colour, mostly of another
    digit ("a picture of a small blue handwritten seven" for a blue six): patches of raw pixels need
    more than these 12,000 pictures. It shows how a CoCa is trained, and no more.
    """
    return Run(
        model=ModelConfig(name="tiny-coca"),
        objective=CocaObjectiveConfig(),
        data=DataConfig(
            path=f"{folder}/data/train/{{000000..000011}}.tar",
            augment=AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), shift=3),
            workers=1,
            cache=f"{folder}/data/cache",
        ),
        optim=OptimConfig(lr=2e-3, weight_decay=0.1, warmup=50, max_norm=1.0),
        save=SaveConfig(every_steps=0, keep=1),
        evaluation=EvaluationConfig(
            path=f"{folder}/data/test/unseen-000000.tar",
            class_names=f"{folder}/data/digits.txt",
            templates=("a handwritten {}", "a large {}", "a small {}"),
            every_steps=200,
            limit=500,
        ),
        batch_size=64,
        steps=1500,
        out=f"{folder}/coca",
        recipe="tiny-coca-digits",
    )


def coca_vit_b_32() -> Run:
    """CoCa with a ViT-B/32: 500,000 steps of 65,536 pairs (Yu et al. 2022, arXiv:2205.01917, §4.1).

    torchrun --nproc-per-node 8 -m diptych train coca-vit-b-32 --data.path 'shards/{0000..9999}.tar'

    AdamW is in the place of the paper's Adafactor.
    Hardware: 8 GPUs of 80 GB; with less memory set --micro-batch, the result stays the same.
    Expected: 63.59 % top-1 on ImageNet by open_clip, with 13 billion samples of LAION-2B in batches
    of 90,000 and rates of its own; the paper has no model of this size.
    """
    return Run(
        model=ModelConfig(name="coca-vit-b-32"),
        objective=CocaObjectiveConfig(),
        data=DataConfig(path="shards/{0000..9999}.tar", workers=8),
        optim=OptimConfig(
            lr=8e-4, betas=(0.9, 0.999), weight_decay=0.01, warmup=10000, schedule="linear"
        ),
        save=SaveConfig(every_steps=0, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=5000),
        batch_size=65536,
        steps=500_000,
        precision="bf16",
        out="runs/coca-vit-b-32",
        recipe="coca-vit-b-32",
    )


def coca_vit_l_14_captions() -> Run:
    """Captions alone, from published weights, as open_clip's README fine-tunes on COCO: an epoch
    without the contrast.

    diptych train coca-vit-l-14-captions --data.path coco/train2014.csv

    Hardware: one GPU of 80 GB.
    Expected: sentences of COCO's kind; without the contrast zero-shot accuracy gets worse, in
    open_clip's weights from 75.64 to 72.10 % on ImageNet.
    """
    return Run(
        model=ModelConfig(name="coca-vit-l-14", init="coca-vit-l-14/laion2b_s13b_b90k"),
        objective=CocaObjectiveConfig(pairs_weight=0.0, captions_weight=1.0),
        data=DataConfig(path="coco/train2014.csv", workers=3),
        optim=OptimConfig(lr=1e-5, weight_decay=0.1, warmup=1000),
        save=SaveConfig(every_minutes=30.0),
        batch_size=128,
        epochs=1.0,
        precision="bf16",
        out="runs/coca-vit-l-14-captions",
        recipe="coca-vit-l-14-captions",
    )
