"""A class as a vector: the mean of its captions."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from diptych.errors import ConfigError


def class_vectors(
    embed_texts: Callable[[list[str]], Float[Tensor, "texts width"]],
    names: Sequence[str],
    templates: Sequence[str] = ("{}",),
) -> Float[Tensor, "classes width"]:
    """Template ensembling (arXiv:2103.00020 §3.1.4): with n(x) = x / |x| and the templates p,

        vector of class c = n( mean_p n( text vector of p(c) ) )

    `embed_texts` gives unit vectors; it is called once with the prompts of all classes, so that it
    can batch them by length. Raises ConfigError for a template without `{}` and when there are no
    names or no templates.

    >>> import torch
    >>> from diptych.encoder import class_vectors
    >>> vectors = {"a cat": torch.tensor([1.0, 0.0]), "the cat": torch.tensor([0.0, 1.0])}
    >>> embed = lambda texts: torch.stack([vectors[text] for text in texts])
    >>> class_vectors(embed, ["cat"], ["a {}", "the {}"])
    tensor([[0.7071, 0.7071]])
    """
    if not names or not templates:
        raise ConfigError("classification needs at least one class name and one template")
    for template in templates:
        if "{}" not in template:
            raise ConfigError(f"template {template!r} has no {{}} where the class name goes")
    vectors = embed_texts(prompts(names, templates))
    # Normalised after the mean, too: else a class whose prompts disagree, and whose mean is
    # therefore short, would get lower scores for every picture.
    return normalize(vectors.view(len(names), len(templates), -1).mean(1), dim=-1)


def prompts(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template with every name: those of the first name, then those of the second.

    >>> from diptych.encoder import prompts
    >>> prompts(["cat", "dog"], ["a {}", "the {}"])
    ['a cat', 'the cat', 'a dog', 'the dog']
    """
    pairs = itertools.product(names, templates)
    return [template.replace("{}", name) for name, template in pairs]


def prompt_vectors(
    embed_texts: Callable[[list[str]], Float[Tensor, "texts width"]],
    prompts: Sequence[Sequence[str]],
) -> Float[Tensor, "classes width"]:
    """`class_vectors` of classes whose prompts are given, any number of each."""
    vectors = embed_texts(list(itertools.chain.from_iterable(prompts)))
    means = [part.mean(0) for part in vectors.split(list(map(len, prompts)))]
    return normalize(torch.stack(means), dim=-1)
