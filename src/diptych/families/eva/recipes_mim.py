r"""EVA's masked image modelling at full size, before contrastive training (Fang et al. 2022 and
2023, arXiv:2211.07636, arXiv:2303.11331; Sun et al. 2024, arXiv:2402.04252). The data is yours, and
needs no captions: every command sets `--data.path`, for shards or folders of pictures.

Each model teaches the next: OpenAI's L/14 → EVA01-g, whose CLIP → EVA02-B, -L, -E, whose CLIP →
EVA-8B, -18B. A teacher of your own training: `--objective.teachers runs/eva01-clip-g-14`. What
comes out is a model whose image tower the recipes in `recipes.py` start from: `--model.image.init
runs/eva02-l-mim`.

Settings are those of the scripts in github.com/baaivision/EVA (EVA-01/eva, EVA-02/asuka): crops of
20 to 100 % of the picture, flipped half of the time; 105 of 256 patches hidden by blocks, as many
as they happen to find; AdamW with betas (0.9, 0.98), eps 1e-6 and a decay of 0.05; a rate that
rises through the first epochs and falls along a cosine to 1e-5; gradients cut at 3. Their loss is
the mean over a process's hidden patches, and then over processes; ours over all, which is the same
but for the few patches by which masks differ. None has been run to its end by this project.
"""

from dataclasses import replace

from diptych.config import (
    AugmentConfig,
    ClipConfig,
    DataConfig,
    MimObjectiveConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
    ShardConfig,
    TowerOptions,
)
from diptych.families.eva.pretrained import MODELS, TOWERS
from diptych.families.eva.recipes import MERGED_2B, OPENAI_L

IMAGENET_21K, IMAGES_21K = "imagenet21k/{0000..1419}.tar", 14_197_122
MERGED_30M, IMAGES_30M = "merged30m/{0000..2999}.tar", 30_000_000
MERGED_38M, IMAGES_38M = "merged38m/{0000..3799}.tar", 38_000_000


def eva01_g_mim() -> Run:
    """EVA01-g by masked image modelling: 150 epochs of Merged-30M in batches of 4096.

    torchrun --nnodes 16 --nproc-per-node 8 -m diptych train eva01-g-mim --data.path \
    'merged30m/{0000..2999}.tar'

    Teacher: OpenAI's L/14. Merged-30M is ImageNet-21K, CC12M, CC3M, COCO, ADE20K and Objects365.
    Hardware: 128 GPUs of 40 GB.
    Expected: with eva01-clip-g-14 behind it, 78.5 % zero-shot top-1 on ImageNet (EVA-CLIP's model
    card).
    """
    image = TowerOptions(initial="eva01", stochastic_depth=0.1, checkpointing=True)
    steps = round(150 * IMAGES_30M / 4096)
    run = _run("eva01-g-mim", "eva01-g-psz14", OPENAI_L, image, 4096, steps, 1e-3, MERGED_30M)
    return _warmed_up(run, 2 * IMAGES_30M)


def eva02_b_mim() -> Run:
    """EVA02-B by masked image modelling: 150 epochs of ImageNet-21K in batches of 2048.

    torchrun --nnodes 4 --nproc-per-node 8 -m diptych train eva02-b-mim --data.path \
    'imagenet21k/{0000..1419}.tar'

    Teacher: EVA01-CLIP-g-14. Patches of 14 pixels, as its teacher's; contrastive training resizes
    them to 16. The first layer's gradient is a tenth.
    Hardware: 32 GPUs of 40 GB.
    Expected: with eva02-clip-b-16 behind it, 74.7 % zero-shot top-1 on ImageNet (EVA-CLIP's model
    card).
    """
    run = _eva02("eva02-b-mim", "eva02-b-psz14to16", 2048, 150)
    image = replace(TOWERS["eva02-b-psz14to16"], patch_size=14)
    custom: ClipConfig = replace(MODELS["eva02-clip-b-16"], image=image)
    return replace(run, model=replace(run.model, name="", custom=custom))


def eva02_l_mim() -> Run:
    """EVA02-L by masked image modelling: 150 epochs of ImageNet-21K in batches of 2048.

    torchrun --nnodes 8 --nproc-per-node 8 -m diptych train eva02-l-mim --data.path \
    'imagenet21k/{0000..1419}.tar'

    As eva02-b-mim, with stochastic depth (0.1). Published, too, after 56 epochs of Merged-38M
    (Merged-30M and OpenImages): `--data.path 'merged38m/{0000..3799}.tar' --epochs 56`.
    Hardware: 64 GPUs of 40 GB.
    Expected: with eva02-clip-l-14 behind it, 79.8 % zero-shot top-1 on ImageNet (EVA-CLIP's model
    card).
    """
    return _deep(_eva02("eva02-l-mim", "eva02-l-psz14", 2048, 150))


def eva02_e_mim() -> Run:
    """EVA02-E by masked image modelling: 56 epochs of Merged-38M in batches of 2016.

    torchrun --nnodes 18 --nproc-per-node 8 -m diptych train eva02-e-mim --data.path \
    'merged38m/{0000..3799}.tar'

    Teacher: EVA01-CLIP-g-14. Of its training nothing but the teacher was published: epochs and
    rates are taken to be EVA02-L's on the same data, and its batch of 2048, of which 144 GPUs share
    out 2016.
    Hardware: 144 GPUs of 80 GB; not published.
    Expected: with eva02-clip-e-14-plus behind it, 82.0 % zero-shot top-1 on ImageNet (EVA-CLIP's
    model card).
    """
    run = _deep(_eva02("eva02-e-mim", "eva02-e-psz14", 2016, 56, MERGED_38M, IMAGES_38M))
    return replace(run, shard=ShardConfig(mode="zero2"))


def eva_8b_mim() -> Run:
    """EVA-8B by masked image modelling: 6 billion pictures of Merged-2B in batches of 4096.

    torchrun --nnodes 32 --nproc-per-node 8 -m diptych train eva-8b-mim --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Teacher: EVA02-CLIP-E-14-plus, five billion weights for an image tower of 7.5, which has RMS
    norms; the published code can build neither. Of its training the teacher and the number of
    pictures were published; all else is taken to be as EVA01-g's, in bf16.
    Hardware: 256 GPUs of 80 GB; not published.
    Expected: with eva-clip-8b behind it, 79.4 % mean zero-shot top-1 over 27 image sets
    (EVA-CLIP-18B's model card).
    """
    return _big("eva-8b-mim", "eva-8b-psz14")


def eva_18b_mim() -> Run:
    """EVA-18B by masked image modelling: 6 billion pictures of Merged-2B in batches of 4096.

    torchrun --nnodes 32 --nproc-per-node 8 -m diptych train eva-18b-mim --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    As eva-8b-mim: a post-norm tower of 17.5 billion weights, with RMS norms.
    Hardware: 256 GPUs of 80 GB; not published.
    Expected: with eva-clip-18b behind it, 80.7 % mean zero-shot top-1 over 27 image sets
    (EVA-CLIP-18B's model card).
    """
    return _big("eva-18b-mim", "eva-18b-psz14")


def _eva02(
    name: str,
    student: str,
    batch: int,
    epochs: int,
    data: str = IMAGENET_21K,
    images: int = IMAGES_21K,
) -> Run:
    image = TowerOptions(initial="eva02", patch_gradient=0.1)
    steps = round(epochs * images / batch)
    run = _run(name, student, "eva01-clip-g-14", image, batch, steps, 1.5e-3, data)
    return _warmed_up(run, images)


def _deep(run: Run) -> Run:
    image = replace(run.model.image, stochastic_depth=0.1, checkpointing=True)
    return replace(run, model=replace(run.model, image=image))


def _big(name: str, student: str) -> Run:
    image = TowerOptions(initial="eva01", stochastic_depth=0.1, checkpointing=True)
    steps = round(6e9 / 4096)
    run = _run(name, student, "eva02-clip-e-14-plus", image, 4096, steps, 1e-3, MERGED_2B)
    run = replace(run, precision="bf16", shard=ShardConfig(mode="zero3"))
    return _warmed_up(run, 2 * IMAGES_30M)


def _warmed_up(run: Run, images: int) -> Run:
    """The rate rises while so many are seen."""
    return replace(run, optim=replace(run.optim, warmup=round(images / run.batch_size)))


def _run(
    name: str,
    student: str,
    teacher: str,
    image: TowerOptions,
    batch: int,
    steps: int,
    lr: float,
    data: str,
) -> Run:
    """What all trainings share."""
    return Run(
        model=ModelConfig(name=student, image=image),
        objective=MimObjectiveConfig(teachers=(teacher,), exact=False),
        data=DataConfig(path=data, augment=AugmentConfig(scale=(0.2, 1.0), flip=0.5), workers=8),
        optim=OptimConfig(
            lr=lr,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.05,
            final_lr=1e-5,
            max_norm=3.0,
        ),
        save=SaveConfig(every_steps=0, every_minutes=30.0),
        batch_size=batch,
        steps=steps,
        precision="fp16",
        seed=88,
        out=f"runs/{name}",
        recipe=name,
    )
