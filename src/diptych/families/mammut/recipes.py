"""MaMMUT's recipe, as LAION trained it for its scaling laws (Nezhurina et al. 2025,
arXiv:2506.04598). It hasn't been run to its end by this project."""

from diptych.config import (
    CocaObjectiveConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
)


def mammut_vit_b_32() -> Run:
    """MaMMUT with a ViT-B/32: 12.8 billion samples in batches of 180,224, a cosine from 2.5e-3, as
    the name of LAION's best of this size says.

    torchrun --nproc-per-node 8 -m diptych train mammut-vit-b-32 \\
        --data.path 'shards/{0000..9999}.tar'

    Contrast and captions weigh as CoCa's do in open_clip, 1 and 2; weight decay and the limit of
    the gradient's norm are those of the fork's README.
    Hardware: LAION had 512 GPUs; with fewer set --micro-batch, the result stays the same.
    Expected: no figure of this size is known to this project; of L/14, 80.34 % top-1 on ImageNet.
    """
    return Run(
        model=ModelConfig(name="mammut-vit-b-32"),
        objective=CocaObjectiveConfig(),
        data=DataConfig(path="shards/{0000..9999}.tar", workers=8),
        optim=OptimConfig(
            lr=2.5e-3, betas=(0.9, 0.95), weight_decay=0.2, warmup=6000, max_norm=1.0
        ),
        save=SaveConfig(every_steps=0, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=5000),
        batch_size=180_224,
        steps=71_023,
        precision="bf16",
        out="runs/mammut-vit-b-32",
        recipe="mammut-vit-b-32",
    )
