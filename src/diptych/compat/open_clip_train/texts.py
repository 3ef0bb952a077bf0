"""How loaders make ids of captions: each padded to the context, or to the longest of a batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diptych.batch import Sample
from diptych.compat.model_traits import ModelTraits
from diptych.compat.open_clip_train.batches import collate, column
from diptych.compat.open_clip_train.pairs import ImageText, MaskedImageText
from diptych.errors import ConfigError
from diptych.inputs.tokenizer import pad_rows


class TokenizeText:
    """A caption's ids, for a loader.

    `variable`: as many as it has (`tokenizer(text, pad=False)`). `output_mask`: `map_sample` adds
    which of them are the text's, `text_valid`.

    >>> from diptych.compat import SimpleTokenizer
    >>> from diptych.compat.open_clip_train.data import TokenizeText
    >>> made = TokenizeText(SimpleTokenizer(context_length=6), output_mask=True)
    >>> made.map_sample({"text": b"a dog"})["text_valid"].tolist()
    [True, True, True, True, False, False]
    """

    def __init__(self, tokenizer: Any, variable: bool = False, output_mask: bool = False):
        self.tokenizer, self.variable, self.output_mask = tokenizer, variable, output_mask

    def __call__(self, text: str | bytes) -> Any:
        """The ids, padded unless they are `variable`."""
        text = text.decode() if isinstance(text, bytes) else text
        return (self.tokenizer(text, pad=False) if self.variable else self.tokenizer(text))[0]

    def map_sample(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A sample with ids in place of its `text`."""
        text = sample["text"]
        if self.variable or not self.output_mask:
            return sample | {"text": self(text)}
        text = text.decode() if isinstance(text, bytes) else text
        ids, valid = self.tokenizer(text, output_mask=True)
        return sample | {"text": ids[0], "text_valid": valid[0]}


def get_text_pad_id(tokenizer: Any) -> int:
    """What pads texts, and means nothing else. Raises ConfigError for a tokenizer without it."""
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"variable_text needs a tokenizer with a pad_token_id, and {type(tokenizer).__name__} "
            "has none: its 0 is a word"
        )
    return int(tokenizer.pad_token_id)


def resolve_text_layout(args: Any, model_traits: ModelTraits | None = None) -> tuple[bool, bool]:
    """(captions count in a budget of tokens, texts are padded to the longest of a batch), by a
    model's traits and `args.variable_text`."""
    budget = model_traits is not None and model_traits.naflex_text_in_token_budget
    wanted = model_traits is not None and model_traits.variable_text
    return budget, bool(budget or wanted or vars(args).get("variable_text"))


def columns_of(
    args: Any, tokenizer: Any, model_traits: ModelTraits | None, of_a_list: bool = False
) -> tuple[Callable[[Sample], Any], Callable[[Sequence[Any]], Any]]:
    """What a loader makes of a sample's caption, and how it joins rows. `of_a_list`: open_clip
    gives the captions of tables to a tokenizer in a list."""
    _, variable = resolve_text_layout(args, model_traits)
    if not variable:
        if of_a_list:
            return partial(listed_text, tokenizer), collate
        return partial(_text, TokenizeText(tokenizer)), collate
    joined = partial(
        collate_variable_text,
        pad_id=get_text_pad_id(tokenizer),
        multiple=vars(args).get("text_pad_multiple") or 1,
        most=tokenizer.context_length,
    )
    return partial(_text, TokenizeText(tokenizer, variable=True)), joined


def collate_variable_text(
    rows: Sequence[ImageText], pad_id: int, multiple: int = 1, most: int | None = None
) -> MaskedImageText:
    """A batch whose texts are padded to the longest of them, or to the next `multiple`, at most to
    `most`."""
    texts: list[Tensor] = [row.text for row in rows]
    lengths = torch.tensor([len(text) for text in texts])
    longest = int(lengths.max())
    length = -(-longest // multiple) * multiple
    length = max(longest, min(length, most or length))
    ids = pad_rows([text.tolist() for text in texts], pad_id, length)
    valid = torch.arange(length) < lengths[:, None]
    return MaskedImageText(column([row.image for row in rows]), ids, valid)


def listed_text(tokenizer: Any, sample: Sample) -> Any:
    """The first caption's ids, as open_clip asks them of tables; without a tokenizer the text."""
    caption = sample.captions[0]
    return caption if tokenizer is None else tokenizer([caption])[0]


def _text(tokenize: TokenizeText, sample: Sample) -> Any:
    return tokenize(sample.captions[0])
