"""Tokenizers of transformers with open_clip's face."""

from pathlib import Path
from typing import Any

from diptych.compat.loading.options import refuse
from diptych.compat.tokenizers.base import DEFAULT_CONTEXT_LENGTH, OpenClipTokenizer
from diptych.compat.tokenizers.genlip import GENLIP, TurnTokenizer
from diptych.config.model import Cleaning
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import HuggingFaceTokenizer

CLEANING: dict[str, Cleaning] = {
    "whitespace": "spaces",
    "lower": "lower",
    "canonicalize": "canonical",
    "none": "none",
    "identity": "none",
}
"""open_clip's words for what becomes of a text, and Diptych's."""
CLIPS = "clips"
"""open_clip's word for `TokenizerConfig.class_last`."""
FREE = {"bos_token": "[unused0]", "eos_token": "[unused1]"}
USUAL = {
    "use_fast": True,
    "trust_remote_code": False,
    "padding_side": "right",
    "truncation_side": "right",
}
"""Options of transformers' that say what is so anyway."""
VOCABULARIES = {
    "c4-en": "timm/ViT-B-16-SigLIP",
    "mc4": "timm/ViT-B-16-SigLIP-i18n-256",
    "gemma": "timm/ViT-B-16-SigLIP2",
}
"""SigLIP's, and where the hub has them as tokenizers of transformers."""


class HFTokenizer(OpenClipTokenizer):
    """A tokenizer of transformers: a folder's or `org/name`'s. `clean`: `whitespace`, `lower` or
    `canonicalize`; `strip_sep_token`: the separator becomes 0; `language`: the source language of
    tokenizers that have several; `tokenizer_mode`: `clips`, `genlip`, which takes a `pad_token`, or
    none. Raises ConfigError where there is none such, and for another mode.
    """

    def __init__(
        self,
        tokenizer_name: str | Path,
        context_length: int | None = DEFAULT_CONTEXT_LENGTH,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
        language: str | None = None,
        cache_dir: str | Path | None = None,
        tokenizer_mode: str | None = None,
        **options: Any,
    ):
        if clean not in CLEANING:
            raise UnknownNameError("cleaning of texts", clean, CLEANING)
        if tokenizer_mode == GENLIP:
            pad = options.pop("pad_token", None)
            refuse(options | {"strip_sep_token": strip_sep_token})
            length = context_length or DEFAULT_CONTEXT_LENGTH
            self._take(
                TurnTokenizer(str(tokenizer_name), length, CLEANING[clean], pad, cache_dir),
                language,
            )
            return
        # open_clip tells transformers of CLIPS's start and end; here they are known.
        class_last = tokenizer_mode == CLIPS
        known = USUAL | (FREE if class_last else {"tokenizer_mode": None})
        said = options | ({} if class_last else {"tokenizer_mode": tokenizer_mode})
        refuse({word: value for word, value in said.items() if known.get(word) != value})
        tokenizer = HuggingFaceTokenizer(
            str(tokenizer_name),
            context_length or DEFAULT_CONTEXT_LENGTH,
            clean=CLEANING[clean],
            blank_separator=strip_sep_token and not class_last,
            class_last=class_last,
            cache_dir=cache_dir,
        )
        self._take(tokenizer, language)

    @classmethod
    def of(cls, tokenizer: HuggingFaceTokenizer, language: str | None = None) -> "HFTokenizer":
        """Around Diptych's."""
        made = cls.__new__(cls)
        made._take(tokenizer, language)
        return made

    def _take(self, tokenizer: HuggingFaceTokenizer | TurnTokenizer, language: str | None) -> None:
        super().__init__(tokenizer)
        self.tokenizer = tokenizer.library
        """transformers' own."""
        self.clean_fn = tokenizer.clean
        """What becomes of a text before."""
        self.strip_sep_token = tokenizer.blank is not None
        self.pad_token_id = self.tokenizer.pad_token_id
        found = (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id)
        self.eot_token_id = next((each for each in found if each is not None), None)
        found = (self.tokenizer.bos_token_id, self.tokenizer.cls_token_id)
        self.sot_token_id = next((each for each in found if each is not None), None)
        if language:
            self.set_language(language)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of the whole text; `add_special_tokens`: with the tokenizer's own."""
        ids = self.tokenizer.encode(self.clean_fn(text), add_special_tokens=add_special_tokens)
        separator = self.tokenizer.sep_token_id if self.strip_sep_token else None
        return [0 if number == separator else number for number in ids]

    def _text(self, ids: list[int], skip_special_tokens: bool) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def set_language(self, src_lang: str) -> None:
        """Texts are of this language from now on. Raises ConfigError for a tokenizer that has but
        one."""
        try:
            self.tokenizer.set_src_lang_special_tokens(src_lang)
        except (AttributeError, KeyError) as error:
            raise ConfigError(f"the tokenizer has no language {src_lang!r}") from error

    def save_pretrained(self, dest: str | Path) -> None:
        """Write its files into a folder."""
        self.tokenizer.save_pretrained(str(dest))


class SigLipTokenizer(HFTokenizer):
    """SigLIP's tokenizers: `c4-en`, `mc4` (many languages) or `gemma` (SigLIP 2), which are fetched
    from the hub as its published models have them, or a folder's or `org/name`'s. Texts are
    canonicalised: lower case, no punctuation. Raises ConfigError where there is none such, and a
    call with `output_mask` NoMaskError.
    """

    VOCAB_FILES = VOCABULARIES
    no_mask = "SigLIP's towers were trained to read padding, too"

    def __init__(
        self,
        tokenizer_name: str | Path,
        context_length: int | None = 64,
        cache_dir: str | Path | None = None,
    ):
        name = VOCABULARIES.get(str(tokenizer_name), tokenizer_name)
        super().__init__(name, context_length or 64, "canonicalize", cache_dir=cache_dir)
