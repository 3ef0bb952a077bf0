r"""EVA-CLIP's trainings at full size (Sun et al. 2023, 2024: arXiv:2303.15389, arXiv:2402.04252).
The data is yours: every command sets `--data.path`.

Hyper-parameters are those of the README and the tables in github.com/baaivision/EVA. The commands
there contradict the tables and the papers in places. In all recipes we follow

* the paper's constants of Adam, betas (0.9, 0.98) and eps 1e-6. The commands leave them to a
  default that depended on "ViT" in a model's name; the names have lost it since, so that the
  commands now run with (0.9, 0.999) and 1e-8;
* the sizes of mixed sources: Merged-2B is four parts of LAION-2B and one of COYO-700M, and the
  commands draw both alike;
* the text towers that the table names. The commands' files and names of them are ones that their
  code can't read, or doesn't know, and then the text tower starts at random;
* LAMB as DeepSpeed has it, but for each tensor (docs/training.md);
* as much sharding as the hardware asks for (`diptych plan`): none up to g and L, ZeRO-2 for
  g-plus and E, ZeRO-3 for 8B and 18B.

Image towers start from the published ones of masked image modelling; from one of your own, by the
recipes in `recipes_mim.py`: `--model.image.init runs/eva02-b-mim`.

Where a recipe departs from its command otherwise, its docstring says so. None has been run to its
end by this project: the expected results are the model cards', with open_clip's measurement of the
same weights where there is one.

On a cluster, as a job of Slurm that may be stopped and started again:

    #!/bin/bash
    #SBATCH --job-name=eva02-clip-b-16
    #SBATCH --nodes=8
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=8
    #SBATCH --cpus-per-task=96
    #SBATCH --time=24:00:00
    #SBATCH --signal=TERM@180
    #SBATCH --requeue
    HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 \
      --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$HEAD:29500" \
      -m diptych train eva02-clip-b-16 --resume-if-any --out /shared/eva02-clip-b-16 \
      --data.path '/shared/laion2b/{000000..231349}.tar::/shared/coyo/{00000..74699}.tar'
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
    ShardConfig,
    TowerOptions,
)

LAION_400M = "laion400m/{00000..41407}.tar"
LAION_2B = "laion2b/{000000..231349}.tar"
MERGED_2B = f"{LAION_2B}::coyo/{{00000..74699}}.tar"
OPENAI_B, OPENAI_L = "ViT-B-16/openai", "ViT-L-14/openai"
LAION_H, LAION_BIG_G = "ViT-H-14/laion2b_s32b_b79k", "ViT-bigG-14/laion2b_s39b_b160k"

_ZERO2 = ShardConfig(mode="zero2")


def eva01_clip_g_14() -> Run:
    """EVA01-CLIP-g-14: 11 billion samples of LAION-400M in batches of 41K.

    torchrun --nnodes 32 --nproc-per-node 8 -m diptych train eva01-clip-g-14 --data.path \
    'laion400m/{00000..41407}.tar'

    Starts from EVA01-g (recipe eva01-g-mim) and the text tower of OpenAI's L/14. No command was
    published: rates and layer decay are taken to be those of eva01-clip-g-14-plus; stochastic depth
    (0.4) is the configuration's.
    Hardware: 256 GPUs of 40 GB.
    Expected: 78.5 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 78.52).
    """
    image = _image("eva01-g-psz14", 4e-4, 0.85, stochastic_depth=0.4)
    return _run("eva01-clip-g-14", 11e9, 256 * 160, image, _text(OPENAI_L, 0.75), data=LAION_400M)


def eva01_clip_g_14_plus() -> Run:
    """EVA01-CLIP-g-14-plus: 11 billion samples of Merged-2B in batches of 114K.

    torchrun --nnodes 14 --nproc-per-node 8 -m diptych train eva01-clip-g-14-plus --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from EVA01-g (recipe eva01-g-mim) and the text tower of OpenCLIP's H/14; half of the
    patches are left out. The command takes 4 billion samples (100 epochs of 40 million), the
    weights' name says 11: we follow the name, which the result is of.
    Hardware: 112 GPUs of 40 GB.
    Expected: 79.3 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 79.33).
    """
    image = _image("eva01-g-psz14", 4e-4, 0.85, patch_dropout=0.5)
    run = _run("eva01-clip-g-14-plus", 11e9, 112 * 1024, image, _text(LAION_H, 0.75))
    return replace(run, shard=_ZERO2)


def eva02_clip_b_16() -> Run:
    """EVA02-CLIP-B-16: 8 billion samples of Merged-2B in batches of 131K.

    torchrun --nnodes 8 --nproc-per-node 8 -m diptych train eva02-clip-b-16 --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from EVA02-B (recipe eva02-b-mim) and the text tower of OpenAI's B/16.
    Hardware: 64 GPUs of 40 GB.
    Expected: 74.7 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 74.72).
    """
    image = _image("eva02-b-psz14to16", 2e-4, 0.75)
    text = _text(OPENAI_B, 0.75, lr=2e-5)
    return _run("eva02-clip-b-16", 8e9, 64 * 2048, image, text)


def eva02_clip_l_14() -> Run:
    """EVA02-CLIP-L-14: 4 billion samples of Merged-2B in batches of 131K.

    torchrun --nnodes 16 --nproc-per-node 8 -m diptych train eva02-clip-l-14 --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from EVA02-L (recipe eva02-l-mim) and the text tower of OpenAI's L/14.
    Hardware: 128 GPUs of 40 GB.
    Expected: 79.8 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 79.77).
    """
    image = _image("eva02-l-psz14", 4e-4, 0.85)
    return _run("eva02-clip-l-14", 4e9, 128 * 1024, image, _text(OPENAI_L, 0.75))


def eva02_clip_l_14_336() -> Run:
    """EVA02-CLIP-L-14-336, the second stage of eva02-clip-l-14: 2 billion more samples, at 336
    pixels, in batches of 61K.

    torchrun --nnodes 16 --nproc-per-node 8 -m diptych train eva02-clip-l-14-336 --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from the weights of `eva02-clip-l-14` in `runs/` (elsewhere: `--model.init`, also
    `--model.init eva02-clip-l-14`, the published ones), whose positions are interpolated; a warm-up
    and a cosine of its own.
    Hardware: 128 GPUs of 40 GB.
    Expected: 80.4 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 80.39).
    """
    image, text = _image("", 4e-4, 0.75), _text("", 0.65)
    run = _run("eva02-clip-l-14-336", 2e9, 128 * 480, image, text)
    return _after(run, eva02_clip_l_14())


def eva02_clip_e_14() -> Run:
    """EVA02-CLIP-E-14: 4 billion samples of LAION-2B in batches of 115K.

    torchrun --nnodes 18 --nproc-per-node 8 -m diptych train eva02-clip-e-14 --data.path \
    'laion2b/{000000..231349}.tar'

    Starts from EVA02-E (recipe eva02-e-mim) and the text tower of OpenCLIP's H/14; half of the
    patches are left out. The batch is 144 x 800 = 115,200, as the command and the card have it; an
    older card said 144K.
    Hardware: 144 GPUs of 80 GB.
    Expected: 81.9 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 81.96).
    """
    image = _image("eva02-e-psz14", 4e-4, 0.9, patch_dropout=0.5)
    run = _run("eva02-clip-e-14", 4e9, 144 * 800, image, _text(LAION_H, 0.75), data=LAION_2B)
    return replace(run, shard=_ZERO2)


def eva02_clip_e_14_plus() -> Run:
    """EVA02-CLIP-E-14-plus: 9 billion samples of LAION-2B in batches of 144K.

    torchrun --nnodes 18 --nproc-per-node 8 -m diptych train eva02-clip-e-14-plus --data.path \
    'laion2b/{000000..231349}.tar'

    Starts from EVA02-E (recipe eva02-e-mim) and the text tower of OpenCLIP's bigG/14; half of
    the patches are left out. The command names its own result as the image tower's start, takes 4
    billion samples and doesn't ask for bf16; we follow the table and the weights' name, which have
    EVA02-E, 9 billion and bf16.
    Hardware: 144 GPUs of 80 GB.
    Expected: 82.0 % zero-shot top-1 on ImageNet (EVA-CLIP's model card; open_clip: 82.01).
    """
    image, text = eva02_clip_e_14().model.image, _text(LAION_BIG_G, 0.75)
    run = _run("eva02-clip-e-14-plus", 9e9, 144 * 1000, image, text, data=LAION_2B)
    return replace(run, precision="bf16", shard=_ZERO2)


def eva_clip_8b() -> Run:
    """EVA-CLIP-8B: 9 billion samples of Merged-2B in batches of 178K.

    torchrun --nnodes 48 --nproc-per-node 8 -m diptych train eva-clip-8b --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from EVA-8B (recipe eva-8b-mim) and the text tower of EVA02-CLIP-E-14-plus; half of
    the patches are left out, nothing decays (baaivision/EVA#145), and the logit scale stays at 100
    (baaivision/EVA#140). No command was published: batch and samples are the card's; rates, layer
    decay, betas and dropping are what arXiv:2402.04252 is said to have, and were not checked
    against its tables.
    Hardware: 384 GPUs of 40 GB.
    Expected: 79.4 % mean zero-shot top-1 over 27 image sets, 86.2 % mean recall of retrieval
    (EVA-CLIP-18B's model card).
    """
    image = _image("eva-8b-psz14", 4e-4, 0.9, patch_dropout=0.5)
    text = _text("eva02-clip-e-14-plus", 0.75)
    return _big(_run("eva-clip-8b", 9e9, 384 * 464, image, text))


def eva_clip_8b_448() -> Run:
    """EVA-CLIP-8B-448, the second stage of eva-clip-8b: 0.6 billion more samples, at 448 pixels,
    in batches of 24K.

    torchrun --nnodes 48 --nproc-per-node 8 -m diptych train eva-clip-8b-448 --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from the weights of `eva-clip-8b` in `runs/` (elsewhere: `--model.init`), whose positions
    are interpolated. As there, but for half the image tower's rate and all of the patches.
    Hardware: 384 GPUs of 40 GB.
    Expected: 80.0 % mean zero-shot top-1 over 27 image sets, 86.4 % mean recall of retrieval
    (EVA-CLIP-18B's model card).
    """
    image, text = _image("", 2e-4, 0.9), _text("", 0.75)
    return _after(_big(_run("eva-clip-8b-448", 0.6e9, 384 * 64, image, text)), eva_clip_8b())


def eva_clip_18b() -> Run:
    """EVA-CLIP-18B: 6 billion samples of Merged-2B in batches of 108K.

    torchrun --nnodes 45 --nproc-per-node 8 -m diptych train eva-clip-18b --data.path \
    'laion2b/{000000..231349}.tar::coyo/{00000..74699}.tar'

    Starts from EVA-18B (recipe eva-18b-mim) and the text tower of EVA02-CLIP-E-14-plus;
    otherwise as eva-clip-8b. The original adds 20 million pairs of LAION-COCO and, at the end of
    training, 23 million of videos: join their shards with `::`.
    Hardware: 360 GPUs of 40 GB.
    Expected: 80.7 % mean zero-shot top-1 over 27 image sets, 87.8 % mean recall of retrieval
    (EVA-CLIP-18B's model card).
    """
    image, text = replace(eva_clip_8b().model.image, init="eva-18b-psz14"), eva_clip_8b().model.text
    return _big(_run("eva-clip-18b", 6e9, 360 * 300, image, text))


def _image(
    init: str, lr: float, decay: float, patch_dropout: float = 0.0, stochastic_depth: float = 0.0
) -> TowerOptions:
    return TowerOptions(
        init=init,
        lr=lr,
        layer_decay=decay,
        patch_dropout=patch_dropout,
        stochastic_depth=stochastic_depth,
        checkpointing=True,
    )


def _text(init: str, decay: float, lr: float = 4e-5) -> TowerOptions:
    return TowerOptions(init=init, lr=lr, layer_decay=decay, checkpointing=True)


def _run(
    name: str,
    samples: float,
    batch: int,
    image: TowerOptions,
    text: TowerOptions,
    data: str = MERGED_2B,
) -> Run:
    """What all trainings share; `name` is the model's and the recipe's."""
    return Run(
        model=ModelConfig(name=name, image=image, text=text),
        data=DataConfig(
            path=data, augment=AugmentConfig(scale=(0.9, 1.0)), workers=8, consecutive=256
        ),
        optim=OptimConfig(
            name="lamb-deepspeed",
            lr=5e-4,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.05,
            warmup=2000,
            max_norm=5.0,
        ),
        save=SaveConfig(every_steps=0, every_minutes=30.0),
        evaluation=EvaluationConfig(every_steps=2000),
        batch_size=batch,
        steps=round(samples / batch),
        precision="fp16",
        seed=4096,
        out=f"runs/{name}",
        recipe=name,
    )


def _big(run: Run) -> Run:
    """As the third series is trained: no decay, a fixed logit scale, bf16, sharded."""
    optim = replace(run.optim, betas=(0.9, 0.95), weight_decay=0.0, scale_lr=0.0)
    return replace(run, optim=optim, precision="bf16", shard=ShardConfig(mode="zero3"))


def _after(run: Run, first: Run) -> Run:
    """A second stage: from the weights of the first."""
    return replace(run, model=replace(run.model, init=first.out))
