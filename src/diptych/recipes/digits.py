"""Digits of the demonstration: small enough for two CPU cores and four minutes."""

from diptych.config import (
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
    Run,
    SaveConfig,
)

PROMPTS = (
    "a handwritten {}",
    "a large {}",
    "a small {}",
    "a picture of a handwritten {}",
    "there is a large {}",
)
"""Captions of a digit that leave its colour open."""


def tiny_digits(folder: str = "demo", seed: int = 0) -> Run:
    """The run of `diptych demo`: coloured handwritten digits, from nothing, on two CPU cores.

    diptych demo

    `folder` is where `diptych demo` put its shards (`folder/data`) and where the run goes
    (`folder/run`). Hardware: two CPU cores, 2 GB of memory, under four minutes. Expected: on
    handwriting and colour-digit combinations that it has never seen, 10-way zero-shot accuracy of
    93 % for the digit and 99 % for the colour (seeds 0 and 1), and no less than 90 and 95 %."""
    return Run(
        model=ModelConfig(name="tiny"),
        data=DataConfig(
            path=f"{folder}/data/train/{{000000..000011}}.tar",
            augment=AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), shift=3),
            workers=1,
            cache=f"{folder}/data/cache",
        ),
        optim=OptimConfig(lr=1e-3, weight_decay=1.0, warmup=30, max_norm=1.0),
        save=SaveConfig(every_steps=0, keep=1),
        evaluation=EvaluationConfig(
            path=f"{folder}/data/test/unseen-000000.tar",
            class_names=f"{folder}/data/digits.txt",
            templates=PROMPTS,
            every_steps=100,
            limit=500,
        ),
        batch_size=128,
        steps=1200,
        seed=seed,
        out=f"{folder}/run",
        recipe="tiny-digits",
    )
