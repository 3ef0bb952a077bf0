"""open_clip's `generate`, of its models that write captions."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.compat.faces.captioning import (
    Choice,
    check,
    draw,
    limits_of,
    prompt_of,
    searched,
)
from diptych.compat.faces.face import OpenClipModel
from diptych.compat.faces.generation import arguments_of
from diptych.config import ClipConfig
from diptych.encoder.captions import next_logits_of
from diptych.errors import ConfigError
from diptych.inputs import tokenizer_of
from diptych.models import Clip, Tower
from diptych.models.beams import NextLogits
from diptych.models.clip import unit
from diptych.models.evaluating import evaluating


class CaptioningModel(OpenClipModel):
    """What open_clip's `CoCa` and `MaMMUT` have in common."""

    bos_id: int | None = None
    eos_id: int | None = None
    """Where captions begin and end; None: as the tokenizer has it."""

    def _add_image(self, tower: Tower[Any]) -> None:
        """As `OpenClipModel` has it; it gives tokens, too, which captions read."""
        super()._add_image(tower)
        self.visual.output_tokens = True

    def _add_text(self, tower: Tower[Any]) -> None:
        """The same of the text tower, with its ids of start and end, where it has some."""
        super()._add_text(tower)
        self.text.output_tokens = True
        self.bos_id, self.eos_id = self.config.text.bounds or (None, None)

    @property
    def pad_id(self) -> int:
        """What shorter texts are filled up with."""
        raise NotImplementedError

    def picture(self, image: Tensor | Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Unit vectors of pictures, the tokens that captions read, and which of these there are
        (None: all)."""
        return read_tokens(self.visual(image))

    def caption_logits(
        self,
        text: Int[Tensor, "batch length"],
        image_embs: Float[Tensor, "batch tokens width"],
        seen: Tensor | None = None,
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Logits of the token behind each place of texts, given the tokens of a picture to each,
        and which of them there are (None: all)."""
        raise NotImplementedError

    def generate(
        self,
        image: Float[Tensor, "batch 3 height width"] | Mapping[str, Any],
        text: Tensor | None = None,
        seq_len: int = 30,
        max_seq_len: int | None = None,
        temperature: float = 1.0,
        generation_type: str = "beam_search",
        top_p: float = 0.1,
        top_k: int = 1,
        pad_token_id: int | None = None,
        eos_token_id: int | None = None,
        sot_token_id: int | None = None,
        num_beams: int = 6,
        num_beam_groups: int = 3,
        min_seq_len: int = 5,
        stopping_criteria: Any = None,
        repetition_penalty: float = 1.0,
        fixed_output_length: bool = False,
        generation_config: Any = None,
        text_valid: Tensor | None = None,
    ) -> Int[Tensor, "*batch length"]:
        """Captions of pictures as ids, padded: by beam search, or drawn word by
        word (`top_p`, `top_k`) as open_clip draws them with the same seed, behind `text`, [batch,
        length] or of one picture [length]; `text_valid` says where all of them end alike. Ids of
        the start, the end and padding are the model's. `fixed_output_length`: [batch, `seq_len`].
        `generation_config`: transformers', which says all that the arguments before it say.

        A model whose parts were replaced writes by these, any other as Diptych has it, which reads
        a picture once. Raises ConfigError for numbers that don't fit, for what doesn't go together,
        and for a model without a decoder.
        """
        if generation_config is not None:
            ids = {"pad_token_id": pad_token_id, "eos_token_id": eos_token_id}
            given: dict[str, Any] = {"seq_len": seq_len, "sot_token_id": sot_token_id, **ids}
            begun = prompt_of(text, text_valid, len(self.pixels(image)))
            given |= arguments_of(generation_config, 1 if begun is None else begun.shape[1])
            given |= {"fixed_output_length": fixed_output_length, "text_valid": text_valid}
            return self.generate(image, text, max_seq_len=max_seq_len, **given)
        choice = Choice(generation_type, top_k, top_p, temperature, repetition_penalty)
        check(choice, text, stopping_criteria)
        start, end = self.config.text.bounds or _bounds(self.config)
        starts, ends = (sot_token_id, self.bos_id, start), (eos_token_id, self.eos_id, end)
        start, end = (next(i for i in each if i is not None) for each in (starts, ends))
        limits = limits_of(self.config, (start, end), min_seq_len, (seq_len, max_seq_len))
        pad = self.pad_id if pad_token_id is None else pad_token_id
        pixels, clip = self.pixels(image), self._whole()
        prompt = prompt_of(text, text_valid, len(pixels))
        with evaluating(self if clip is None else clip):
            write = self._by_parts(image) if clip is None else next_logits_of(clip, pixels)
            if generation_type == "beam_search":
                beams = (num_beams, num_beam_groups)
                found = searched(write, len(pixels), beams, limits, pad)
                lacking = seq_len - found.shape[1] if fixed_output_length else 0
                return F.pad(found, (0, lacking), value=pad).to(pixels.device)
            if prompt is None:
                prompt = torch.full((len(pixels), 1), start)
            found = draw(write, prompt.to(pixels.device), choice, limits, pad, fixed_output_length)
            return found if text is None or text.ndim > 1 else found[0]

    def _whole(self) -> Clip | None:
        """The model as Diptych has it; None where parts were replaced."""
        try:
            return self.clip
        except ConfigError:
            return None

    def _by_parts(self, image: Tensor | Mapping[str, Any]) -> NextLogits:
        _, pictures, seen = self.picture(image)

        def next_logits(ids: Tensor) -> Tensor:
            count = len(ids) // len(pictures)
            each = pictures.repeat_interleave(count, 0)
            real = None if seen is None else seen.repeat_interleave(count, 0)
            return self.caption_logits(ids.to(each.device), each, real)[:, -1]

        return next_logits


def read_tokens(output: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Unit vectors, tokens, and which of the tokens there are (None: all), of what a tower gives,
    by name or in this order."""
    pooled, tokens, *seen = output.values() if isinstance(output, dict) else output
    return unit(pooled), tokens, seen[0] if seen else None


def _bounds(config: ClipConfig) -> tuple[int, int]:
    """What the tokenizer begins and ends a text with."""
    start, *_, end = tokenizer_of(config).encode("")
    return start, end
