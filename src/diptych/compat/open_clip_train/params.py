"""open_clip_train's options as an `argparse.Namespace`, for training loops of one's own."""

import warnings
from argparse import Action, ArgumentParser, Namespace
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from diptych.compat.open_clip_train.data_manifest import (
    apply_manifest_to_args,
    load_manifest,
    looks_like_manifest,
)
from diptych.compat.open_clip_train.naflex_flags import naflex_of
from diptych.compat.open_clip_train.optim_flags import get_default_params, optim_of
from diptych.compat.open_clip_train.options import OWN
from diptych.compat.open_clip_train.parse import parse
from diptych.compat.open_clip_train.traits import OF_PATCHES, apply_model_traits
from diptych.distributed import started_as
from diptych.errors import AssumptionWarning

__all__ = ["ParseKwargs", "apply_model_traits", "get_default_params", "parse_args"]


class ParseKwargs(Action):
    """An option of `name=value` pairs; values are Python's literals, or texts.

    >>> from argparse import ArgumentParser
    >>> from diptych.compat.open_clip_train.params import ParseKwargs
    >>> parser = ArgumentParser()
    >>> _ = parser.add_argument("--kwargs", nargs="*", action=ParseKwargs)
    >>> parser.parse_args(["--kwargs", "eps=1e-7", "name=cat"]).kwargs
    {'eps': 1e-07, 'name': 'cat'}
    """

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, dict(map(_pair, values)))


def _pair(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_args(args: Sequence[str]) -> Namespace:
    """The options of a command line, with open_clip's own for what isn't said, and `rank`,
    `world_size` and `distributed` as torchrun has it, and a manifest's shards in place of its path
    (`data_manifest`), and of pictures of their own aspect what the loaders' configuration takes
    (`naflex_flags`). Raises ConfigError as `parse`; what it passes over is said in a warning.

    >>> from diptych.compat.open_clip_train.params import parse_args
    >>> args = parse_args(["--model", "ViT-B-32"])
    >>> args.lr, args.beta2, args.world_size
    (0.0005, 0.98, 1)
    """
    patches, rest = naflex_of(args)
    options, remarks = parse(rest)
    for remark in remarks:
        warnings.warn(remark, AssumptionWarning, stacklevel=2)
    found = {each.name: getattr(options, each.name) for each in fields(options)}
    for name in OWN:
        del found[name]
    rank, size = started_as()
    found |= {"rank": rank, "world_size": size, "distributed": size > 1}
    chosen = optim_of(options)
    beta1, beta2 = chosen.betas
    found |= {"lr": chosen.lr, "beta1": beta1, "beta2": beta2, "eps": chosen.eps}
    of_patches = OF_PATCHES if patches["use_naflex"] else {}
    found["aug_cfg"] = {**(found["aug_cfg"] or {}), **of_patches}
    made = Namespace(**found | patches)
    if looks_like_manifest(made.train_data):
        apply_manifest_to_args(made, load_manifest(made.train_data))
    return made
