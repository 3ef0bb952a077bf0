"""What users hold: vectors of pictures and texts, and what is made of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Literal, overload

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from diptych.encoder.captions import limits_of, write
from diptych.encoder.classes import class_vectors, prompt_vectors
from diptych.encoder.embedder import Embedder, check_order
from diptych.errors import ConfigError, ImageError
from diptych.inputs import Picture
from diptych.inputs.picture import is_picture
from diptych.models.heat import heat_maps

Names = Iterable[str] | Mapping[str, Sequence[str]]
"""Of classes; a mapping holds the prompts of each."""
Scores = Literal["cosine", "softmax", "sigmoid"]


class Encoder(Embedder):
    """Pictures and texts to unit vectors. `diptych.load` makes one; so does a model in your hands.

    All vectors are float32 on the CPU, of length 1, in the order of the inputs. The towers compute
    where the model is and in its precision, without gradient and in evaluation mode. Of a model
    that is one tower alone (`config.missing` says which isn't there), what needs the other raises
    ConfigError, in a sentence that says what does work.

    >>> import torch
    >>> from diptych import Encoder, models, pretrained
    >>> encoder = Encoder(models.build(pretrained.get("tiny")))
    >>> grey = torch.full((3, 60, 80), 128, dtype=torch.uint8)
    >>> encoder.embed_images([grey, grey]).shape == encoder.embed_texts(["a cat", "a dog"]).shape
    True
    >>> sorted(encoder.classify(grey, ["cat", "dog"]))
    ['cat', 'dog']
    """

    @property
    def probability(self) -> Literal["softmax", "sigmoid"]:
        """What `classify` answers with, as the model was trained. `softmax`: the names share the
        whole, whether or not any fits. `sigmoid`, of a model with a logit bias (SigLIP): each name
        by itself, so that none may fit, or several.

        >>> from diptych import Encoder, models, pretrained
        >>> Encoder(models.build(pretrained.get("tiny"))).probability
        'softmax'
        """
        return "softmax" if self.model.logit_bias is None else "sigmoid"

    @overload
    def caption(
        self, images: Picture, *, beams: int = ..., most: int = ..., least: int = ...
    ) -> str: ...
    @overload
    def caption(
        self,
        images: Iterable[Picture],
        *,
        beams: int = ...,
        most: int = ...,
        least: int = ...,
        batch_size: int = ...,
        progress: bool = ...,
        unreadable: Callable[[int, ImageError], None] | None = ...,
    ) -> list[str]: ...
    def caption(
        self,
        images: Picture | Iterable[Picture],
        *,
        beams: int = 2,
        most: int = 30,
        least: int = 5,
        batch_size: int = 8,
        progress: bool = False,
        unreadable: Callable[[int, ImageError], None] | None = None,
    ) -> str | list[str]:
        """What a model that writes captions (CoCa) writes of a picture; of several, a list.

        `beams`: how many texts are followed at a time (`models.beams.search`); 1 is greedy search.
        open_clip's default, six beams in three groups, finds what two do: nothing keeps its groups
        apart. `most` and `least`: tokens of a caption, start and end included. `unreadable` as for
        `embed_images`. Raises ConfigError for a model that writes none.
        """
        limits = limits_of(self.model, self.tokenizer, most=most, least=least, beams=beams)

        def encode(pixels: UInt8[Tensor, "batch 3 height wide"]) -> list[str]:
            with self._evaluating():
                return write(self.model, self._normal(pixels), self.tokenizer, beams, limits)

        batches = self._of_images(images, encode, batch_size, progress, unreadable)
        captions = list(chain.from_iterable(batches))
        return captions[0] if is_picture(images) else captions

    @overload
    def classify(
        self,
        image: Picture,
        names: Names,
        templates: str | Sequence[str] = ...,
        *,
        scores: Scores | None = ...,
    ) -> dict[str, float]: ...
    @overload
    def classify(
        self,
        image: Iterable[Picture],
        names: Names,
        templates: str | Sequence[str] = ...,
        *,
        scores: Scores | None = ...,
    ) -> list[dict[str, float]]: ...
    def classify(
        self,
        image: Picture | Iterable[Picture],
        names: Names,
        templates: str | Sequence[str] = ("{}",),
        *,
        scores: Scores | None = None,
    ) -> dict[str, float] | list[dict[str, float]]:
        """Probabilities of the `names` for a picture, as the model was trained (`probability`), or
        the `scores` that are said; for several, a list of such.

        `templates` such as "a photo of a {}." are filled with the names and averaged
        (`class_vectors`). Names with prompts of their own are a mapping to them:
        `{"cat": ["a cat", "a kitten"], "dog": ["a dog"]}`.
        """
        names = _checked(names)
        templates = [templates] if isinstance(templates, str) else templates
        cosines = self.embed_images(image) @ self.class_vectors(names, templates).T
        found = self.scores(cosines, scores or self.probability).tolist()
        predictions = [dict(zip(names, row)) for row in found]
        return predictions[0] if is_picture(image) else predictions

    def class_vectors(
        self, names: Names, templates: Sequence[str] = ("{}",)
    ) -> Float[Tensor, "names width"]:
        """The vector of each class: of a name in the `templates`, or, in a mapping, of the prompts
        that are given for it.

        >>> from diptych import Encoder, models, pretrained
        >>> encoder = Encoder(models.build(pretrained.get("tiny")))
        >>> encoder.class_vectors({"cat": ["a cat", "a kitten"], "dog": ["a dog"]}).shape
        torch.Size([2, 128])
        """
        if not isinstance(names, Mapping):
            return class_vectors(self.embed_texts, list(names), templates)
        if without := [name for name, prompts in names.items() if not prompts]:
            raise ConfigError(f"the class {without[0]!r} has no prompts")
        return prompt_vectors(self.embed_texts, list(names.values()))

    def scores(
        self, cosines: Float[Tensor, "images names"], kind: Scores
    ) -> Float[Tensor, "images names"]:
        """Of cosines of pictures and names: themselves, or probabilities, which names share
        (`softmax`) or have each by itself (`sigmoid`). Raises ConfigError for the sigmoid of a
        model without a logit bias: nothing says where its probabilities would be one half.

        >>> import torch
        >>> from diptych import Encoder, models, pretrained
        >>> encoder = Encoder(models.build(pretrained.get("tiny")))
        >>> encoder.scores(torch.tensor([[0.2, 0.2]]), "softmax")
        tensor([[0.5000, 0.5000]])
        """
        if kind == "cosine":
            return cosines
        # The scale is the inverse temperature, whose logarithm is the parameter.
        logits = self.model.logit_scale.detach().float().cpu().exp() * cosines
        if kind == "softmax":
            return logits.softmax(-1)
        if self.model.logit_bias is None:
            raise ConfigError(
                f"{self.name} wasn't trained with a sigmoid loss, so its sigmoid says nothing: "
                "ask for cosine or softmax"
            )
        return (logits + self.model.logit_bias.detach().float().cpu()).sigmoid()

    def explain(
        self,
        images: Picture | Iterable[Picture],
        texts: str | Iterable[str],
        batch_size: int = 8,
        unreadable: Callable[[int, ImageError], None] | None = None,
    ) -> Float[Tensor, "*images texts rows columns"]:
        """Heat maps: where in a picture each text is, a number for each place of the tower's grid;
        of several pictures, one block of maps each. They lie over what the tower sees of a
        picture (`Preprocess.seen`): a square, or all of it (NaFlex).

        Of transformers and attention pools the cosine of a place's own vector with the text, of
        convolutional nets Grad-CAM's numbers (`models.heat.heat_maps`): a map says where, and only
        the first kind may be compared between texts. `unreadable` as for `embed_images`.

        >>> import torch
        >>> from diptych import Encoder, models, pretrained
        >>> encoder = Encoder(models.build(pretrained.get("tiny")))
        >>> grey = torch.full((3, 60, 80), 128, dtype=torch.uint8)
        >>> encoder.explain(grey, ["a cat", "a dog"]).shape
        torch.Size([2, 3, 3])
        >>> encoder.explain([grey], "a cat").shape
        torch.Size([1, 1, 3, 3])
        """
        wanted = self.embed_texts(texts)

        def encode(pixels: UInt8[Tensor, "batch 3 height wide"]) -> Tensor:
            with self._evaluating(gradients=True):
                return heat_maps(self.model.image, self._normal(pixels), wanted).cpu()

        found = list(self._of_images(images, encode, batch_size, False, unreadable))
        if is_picture(images):
            return found[0][0]
        return torch.cat(found) if found else torch.zeros(0, len(wanted), 0, 0)


def _checked(names: Names) -> Sequence[str] | Mapping[str, Sequence[str]]:
    if isinstance(names, str):
        raise ConfigError(f"names is one text, {names!r}; give a list of names")
    if isinstance(names, Mapping):
        return names
    check_order("names", names)
    names = list(names)
    given: list[object] = [*names]  # callers without types bring numbers
    if strange := [name for name in given if not isinstance(name, str)]:
        raise ConfigError(f"names are texts, and {strange[0]!r} is none")
    if len(set(given)) < len(given):
        raise ConfigError(f"a name stands twice in {', '.join(names)}")
    return names
