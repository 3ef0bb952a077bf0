"""open_clip's `generate`, of its models that write captions."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from diptych.compat.faces.captioning import Choice, check, drawn, limits_of, searched
from diptych.compat.faces.face import OpenClipModel
from diptych.config import ClipConfig
from diptych.inputs import tokenizer_of
from diptych.models.evaluating import evaluating


class CaptioningModel(OpenClipModel):
    """What open_clip's `CoCa` and `MaMMUT` have in common."""

    bos_id: int | None = None
    eos_id: int | None = None
    """Where captions begin and end; None: as the tokenizer has it."""

    @property
    def pad_id(self) -> int:
        """What shorter texts are filled up with."""
        raise NotImplementedError

    def generate(
        self,
        image: Float[Tensor, "batch 3 height width"],
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
    ) -> Int[Tensor, "*batch length"]:
        """Captions of pictures as ids, padded: by beam search, or drawn word by
        word (`top_p`, `top_k`) as open_clip draws them with the same seed, behind `text`, [batch,
        length] or of one picture [length]. Ids of the start, the end and padding are the model's.
        `fixed_output_length`: [batch, `seq_len`].

        Raises ConfigError for numbers that don't fit, for what doesn't go together, and for a model
        without a decoder.
        """
        choice = Choice(generation_type, top_k, top_p, temperature, repetition_penalty)
        check(choice, text, stopping_criteria)
        clip = self.clip
        start, end = self.config.text.bounds or _bounds(self.config)
        starts, ends = (sot_token_id, self.bos_id, start), (eos_token_id, self.eos_id, end)
        start, end = (next(i for i in each if i is not None) for each in (starts, ends))
        limits = limits_of(clip, (start, end), min_seq_len, (seq_len, max_seq_len))
        pad = self.pad_id if pad_token_id is None else pad_token_id
        pixels = image.to(self.dtype)
        with evaluating(clip):
            if generation_type == "beam_search":
                found = searched(clip, pixels, (num_beams, num_beam_groups), limits, pad)
                lacking = seq_len - found.shape[1] if fixed_output_length else 0
                return F.pad(found, (0, lacking), value=pad).to(image.device)
            filled = (pad, fixed_output_length)
            if text is None or text.ndim > 1:
                return drawn(clip, pixels, choice, limits, text, filled)
            return drawn(clip, pixels, choice, limits, text[None], filled)[0]


def _bounds(config: ClipConfig) -> tuple[int, int]:
    """What the tokenizer begins and ends a text with."""
    start, *_, end = tokenizer_of(config).encode("")
    return start, end
