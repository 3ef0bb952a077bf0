"""Tokenizers of transformers with open_clip's face."""

from pathlib import Path
from typing import Any, Literal

from diptych.compat.options import refuse
from diptych.compat.tokenizer_base import DEFAULT_CONTEXT_LENGTH, OpenClipTokenizer
from diptych.errors import ConfigError, UnknownNameError
from diptych.inputs import HuggingFaceTokenizer

CLEANING: dict[str, Literal["spaces", "lower", "canonical"]] = {
    "whitespace": "spaces",
    "lower": "lower",
    "canonicalize": "canonical",
}
"""open_clip's words for what becomes of a text, and Diptych's."""
VOCABULARIES = {
    "c4-en": "timm/ViT-B-16-SigLIP",
    "mc4": "timm/ViT-B-16-SigLIP-i18n-256",
    "gemma": "timm/ViT-B-16-SigLIP2",
}
"""SigLIP's, and where the hub has them as tokenizers of transformers."""


class HFTokenizer(OpenClipTokenizer):
    """A tokenizer of transformers: a folder's or `org/name`'s. `clean`: `whitespace`, `lower` or
    `canonicalize`; `strip_sep_token`: the separator becomes 0; `language`: the source language of
    tokenizers that have several. Raises ConfigError where there is none such, and for a
    `tokenizer_mode`.
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
        refuse(options | {"tokenizer_mode": tokenizer_mode})
        if clean not in CLEANING:
            raise UnknownNameError("cleaning of texts", clean, CLEANING)
        tokenizer = HuggingFaceTokenizer(
            str(tokenizer_name),
            context_length or DEFAULT_CONTEXT_LENGTH,
            clean=CLEANING[clean],
            blank_separator=strip_sep_token,
            cache_dir=cache_dir,
        )
        self._take(tokenizer, language)

    @classmethod
    def of(cls, tokenizer: HuggingFaceTokenizer, language: str | None = None) -> "HFTokenizer":
        """Around Diptych's."""
        made = cls.__new__(cls)
        made._take(tokenizer, language)
        return made

    def _take(self, tokenizer: HuggingFaceTokenizer, language: str | None) -> None:
        super().__init__(tokenizer)
        self.tokenizer = tokenizer.library
        """transformers' own."""
        if language:
            self.set_language(language)

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
    canonicalised: lower case, no punctuation. Raises ConfigError where there is none such.
    """

    VOCAB_FILES = VOCABULARIES

    def __init__(
        self,
        tokenizer_name: str | Path,
        context_length: int | None = 64,
        cache_dir: str | Path | None = None,
    ):
        name = VOCABULARIES.get(str(tokenizer_name), tokenizer_name)
        super().__init__(name, context_length or 64, "canonicalize", cache_dir=cache_dir)
