"""The flags that most people want of verbs that have many: those of `--help`, in groups."""

from collections.abc import Mapping

Groups = Mapping[str, Mapping[str, str]]
"""Title -> name of a flag, without dashes -> a few words; none: its first sentence."""

GROUPS: Mapping[str, Groups] = {
    "train": {
        "what it learns from": {
            "data.path": "shards 'a/{000..099}.tar', a table, or a folder (docs/data.md)",
            "data.image-key": "column, or member of shards, of the picture",
            "data.caption-key": "column, or member of shards, of the caption",
            "data.image-root": "tables: the folder from which paths of pictures start",
            "data.class-names": "of numbers in place of captions: a file, one name a line",
            "data.share": "train on this share of the samples",
            "data.workers": "",
        },
        "the model": {
            "model.name": "a name that `diptych models` lists, or a JSON file",
            "model.init": "start from these weights: a run, a file, a name",
            "model.image.size": "side of the pictures in pixels, if not the model's own",
            "model.text.context": "tokens of a text at the most, if not the model's own",
            "model.image.freeze": "the image tower isn't trained (LiT)",
            "model.text.freeze": "the text tower isn't trained",
            "model.image.unlocked-layers": "train only so many groups of layers, the last ones",
            "model.image.layer-decay": "each layer's rate, as a share of the next one's",
            "model.image.checkpointing": "recompute activations: less memory, more time",
        },
        "how it learns": {
            "batch-size": "pairs a step, over all processes together",
            "micro-batch": "pairs that a process computes at a time; 0: its whole share",
            "steps": "optimiser steps; 0: as many as --epochs take",
            "epochs": "passes over the data, where --steps is 0",
            "optim.lr": "",
            "optim.warmup": "",
            "optim.weight-decay": "",
            "precision": "of the towers' products; weights and loss stay in float32",
            "ema": "decay of a moving average of the weights; 0: none",
            "seed": "",
            "shard.mode": "how the model is spread over GPUs",
        },
        "what is measured and kept": {
            "out": "the folder of the run",
            "evaluation.path": "labelled pictures to measure zero-shot accuracy on",
            "evaluation.pairs": "held-out pairs to measure loss and retrieval on",
            "evaluation.every-steps": "",
            "save.every-steps": "",
            "save.keep": "",
            "track.tensorboard": "write curves for TensorBoard, too",
            "track.wandb": "send them to this project of Weights & Biases, too",
        },
    },
    "evaluate": {
        "your own data": {
            "data": "a folder with a sub-folder per class, a table, or shards",
            "task": "by default what the data is good for",
            "class-names": "a text file, one name a line; class folders need none",
            "templates": "a set (simple, openai-80), 'a photo of a {}.', or a file",
            "image-key": "column, or member of shards, of the picture",
            "caption-key": "column, or member of shards, of the caption",
            "shots": "fewshot: pictures a class",
            "predictions": "write a line for each picture to this CSV file",
        },
        "the field's sets": {
            "tasks": "imagenet1k, vtab+, retrieval, linear/cifar100, paths",
            "data-root": "",
            "profile": "whose conventions: diptych, openai, clip-benchmark",
            "list": "show the sets that are known, and how to get them",
        },
        "for both": {
            "out": "the folder (with --data also the JSON file) of results",
            "resize": "how pictures become squares",
            "limit": "use the first so many samples of each split; 0: all",
            "batch-size": "",
            "dtype": "",
            "device": "",
            "cache": "folder of vectors; '' keeps none",
        },
    },
    "reinforce": {
        "flags": dict.fromkeys(
            ("teacher", "out", "crops", "seed", "vectors", "device", "dtype"), ""
        ),
        "pairs": dict.fromkeys(("data.image-key", "data.caption-key", "data.keep"), ""),
    },
}
"""Verb -> the flags of its `--help`; of other verbs all but `Compute`'s."""
