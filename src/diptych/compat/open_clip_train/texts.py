"""How loaders make ids of captions: each padded to the context, or to the longest of a batch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import default_collate

from diptych.batch import Sample
from diptych.compat.model_traits import ModelTraits
from diptych.compat.open_clip_train.batches import collate, column
from diptych.compat.open_clip_train.pairs import ImageText
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
        _joined,
        pad_id=get_text_pad_id(tokenizer),
        pad_multiple=vars(args).get("text_pad_multiple"),
        pad_cap=tokenizer.context_length,
    )
    return partial(_text, TokenizeText(tokenizer, variable=True)), joined


def collate_variable_text(
    targets: Sequence[Any],
    pad_id: int,
    pad_multiple: int | None = None,
    pad_cap: int | None = None,
) -> tuple[Int[Tensor, "texts length"], Bool[Tensor, "texts length"]]:
    """Ids of texts, padded to the longest of them, or to the next `pad_multiple`, at most to
    `pad_cap`; and which of them are theirs. Raises ConfigError for a text that is longer than that.

    >>> import torch
    >>> from diptych.compat.open_clip_train.naflex_data import collate_variable_text
    >>> collate_variable_text([torch.tensor([5, 6]), torch.tensor([7])], pad_id=0)[0]
    tensor([[5, 6],
            [7, 0]])
    """
    texts = [torch.as_tensor(target) for target in targets]
    lengths = torch.tensor([len(text) for text in texts])
    longest, multiple = int(lengths.max()), pad_multiple or 1
    if pad_cap is not None and longest > pad_cap:
        raise ConfigError(
            f"a text of {longest} tokens exceeds pad_cap {pad_cap}: the tokenizer must cut it"
        )
    length = -(-longest // multiple) * multiple
    length = length if pad_cap is None else min(length, pad_cap)
    ids = pad_rows([text.tolist() for text in texts], pad_id, length)
    return ids, torch.arange(length) < lengths[:, None]


def collate_variable_text_dicts(
    batch: Sequence[Mapping[str, Any]],
    *,
    pad_id: int,
    target_key: str = "text",
    text_pad_multiple: int | None = None,
    text_pad_cap: int | None = None,
) -> dict[str, Any]:
    """Samples by name to a batch: what stands at `target_key` as `collate_variable_text` has it,
    with `..._valid` beside it, all else as torch's `default_collate`."""
    texts = [sample[target_key] for sample in batch]
    ids, valid = collate_variable_text(texts, pad_id, text_pad_multiple, text_pad_cap)
    others = [{name: sample[name] for name in sample if name != target_key} for sample in batch]
    return default_collate(others) | {target_key: ids, f"{target_key}_valid": valid}


def _joined(rows: Sequence[ImageText], **padding: Any) -> ImageText:
    ids, valid = collate_variable_text([row["text"] for row in rows], **padding)
    return ImageText(image=column([row["image"] for row in rows]), text=ids, text_valid=valid)


def listed_text(tokenizer: Any, sample: Sample) -> Any:
    """The first caption's ids, as open_clip asks them of tables; without a tokenizer the text."""
    caption = sample.captions[0]
    return caption if tokenizer is None else tokenizer([caption])[0]


def _text(tokenize: TokenizeText, sample: Sample) -> Any:
    return tokenize(sample.captions[0])
