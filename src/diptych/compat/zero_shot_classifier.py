"""Vectors of classes as open_clip's callers ask for them: beside each other, not below."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from string import Formatter
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from diptych.compat.task.base_task import measured_model
from diptych.datasets.templates import template as with_place
from diptych.encoder.classes import prompt_vectors
from diptych.encoder.progress import track
from diptych.errors import ConfigError

Item = TypeVar("Item")
Template = str | Callable[[str], str]


def batched(iterable: Iterable[Item], n: int) -> Iterator[list[Item]]:
    """Lists of `n` neighbours; the last one may be shorter.

    >>> from diptych.compat.zero_shot_classifier import batched
    >>> list(batched("abc", 2))
    [['a', 'b'], ['c']]
    """
    rest = iter(iterable)
    while batch := list(islice(rest, n)):
        yield batch


def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    classnames: Sequence[Any],
    templates: Sequence[Template],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Float[Tensor, "width classes"]:
    """The unit vector of each class in a column: the mean of its captions' unit vectors, again of
    unit length (Radford et al. 2021, arXiv:2103.00020 §3.1.4).

    `model` needs `encode_text(ids, normalize=True)`; it may be in DDP, or a task's, which gives
    the one of averaged weights where it has one. `templates` are functions of a name, or texts with
    `{}` in its place, as `str.format` fills them. The captions of `num_classes_per_batch` classes
    go through the model together, on `device`; None: those of all. `use_tqdm`: a progress bar on
    stderr. Raises ConfigError without names or templates, and for a template without a place for
    the name.

    >>> from diptych import compat
    >>> model = compat.create_model("tiny", load_weights=False)
    >>> tokenizer = compat.get_tokenizer("tiny")
    >>> names, templates = ["cat", "dog"], compat.SIMPLE_IMAGENET_TEMPLATES
    >>> compat.build_zero_shot_classifier(model, tokenizer, names, templates).shape
    torch.Size([128, 2])
    """
    measured = measured_model(model)

    def embed(texts: list[str]) -> Tensor:
        return measured.encode_text(tokenizer(texts).to(device), normalize=True)

    step = len(classnames) if num_classes_per_batch is None else num_classes_per_batch
    return _columns(embed, classnames, templates, step, use_tqdm)


def build_zero_shot_classifier_legacy(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    classnames: Sequence[Any],
    templates: Sequence[Template],
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,
) -> Float[Tensor, "width classes"]:
    """The same, class by class, of a `model` whose `encode_text(ids)` knows no `normalize`."""

    def embed(texts: list[str]) -> Tensor:
        return normalize(model.encode_text(tokenizer(texts).to(device)), dim=-1)

    return _columns(embed, classnames, templates, 1, use_tqdm)


@torch.no_grad()
def _columns(
    embed: Callable[[list[str]], Tensor],
    names: Sequence[Any],
    templates: Sequence[Template],
    step: int,
    progress: bool,
) -> Tensor:
    lists: dict[str, Any] = {"classnames": names, "templates": templates}
    for what, given in lists.items():
        if isinstance(given, str) or not isinstance(given, Collection) or not len(given):
            raise ConfigError(f"{what}={given!r} must be a list of at least one")
    if step < 1:
        raise ConfigError(f"num_classes_per_batch={step} must be at least 1, or None for all")
    fill = [_function(template) for template in templates]
    prompts = [[of(name) for of in fill] for name in names]
    batches: Iterable[tuple[list[list[str]], Tensor]] = (
        (prompts[first : first + step], prompt_vectors(embed, prompts[first : first + step]))
        for first in range(0, len(prompts), step)
    )
    if progress:
        batches = track(batches, "classes", len(prompts))
    return torch.cat([vectors for _, vectors in batches]).T


def _is_format(template: str) -> bool:
    """Whether `str.format` fills it with one value, as open_clip does (`{}`, `{0:>5}`, `{{`)."""
    try:
        parts = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    except ValueError:  # a single brace
        return False
    return parts == [""] or set(parts) == {"0"}


def _function(template: Template) -> Callable[[Any], str]:
    if not isinstance(template, str):
        return template
    if _is_format(template):
        return template.format
    plain = with_place(template)
    return lambda name: plain.replace("{}", str(name))  # which may be a number, as in str.format
