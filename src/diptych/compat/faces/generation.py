"""transformers' `GenerationConfig` in `generate`'s arguments, which open_clip's main branch takes.

https://github.com/mlfoundations/open_clip, src/open_clip/generation.py, main branch (June 2026)
"""

from typing import Any, Protocol, runtime_checkable

from diptych.errors import ConfigError

_NUMBERS = {
    "max_length": "seq_len",
    "min_length": "min_seq_len",
    "bos_token_id": "sot_token_id",
    "eos_token_id": "eos_token_id",
    "pad_token_id": "pad_token_id",
    "temperature": "temperature",
    "repetition_penalty": "repetition_penalty",
}
_ADDED = {"max_new_tokens": "seq_len", "min_new_tokens": "min_seq_len"}
"""The same, counted behind the text to go on from; said of both ways, this one counts."""
_HOW = ("do_sample", "top_k", "top_p", "num_beams", "num_beam_groups")
_WITHOUT_MEANING = ("use_cache", "transformers_version")
_WORDS = 50
"""Among how many words transformers draws unless it is told."""


@runtime_checkable
class SaysChanges(Protocol):
    """What is read of a `GenerationConfig`."""

    def to_diff_dict(self) -> dict[str, Any]:
        """All that isn't as by default."""
        raise NotImplementedError


def arguments_of(config: Any, begun: int = 1) -> dict[str, Any]:
    """`generate`'s arguments of a `GenerationConfig`, which stays as it is; `begun`: of how many
    ids the text is to go on from. Raises ConfigError for an option without a counterpart.

    >>> from transformers import GenerationConfig
    >>> from diptych.compat.faces.generation import arguments_of
    >>> arguments_of(GenerationConfig(max_length=12))
    {'min_seq_len': 0, 'seq_len': 12, 'generation_type': 'top_k', 'top_k': 1}
    >>> arguments_of(GenerationConfig(max_new_tokens=4), begun=2)["seq_len"]
    6
    """
    if not isinstance(config, SaysChanges):
        raise ConfigError(
            f"generation_config is a {type(config).__name__}; give transformers' GenerationConfig"
        )
    said = {name: value for name, value in config.to_diff_dict().items() if value is not None}
    found: dict[str, Any] = {"min_seq_len": 0}
    for name, value in said.items():
        if name in (*_NUMBERS, *_ADDED):
            if not isinstance(value, int | float):
                raise ConfigError(f"generation_config: {name} {value!r} must be one number")
        elif name not in (*_HOW, *_WITHOUT_MEANING):
            known = ", ".join((*_NUMBERS, *_ADDED, *_HOW))
            raise ConfigError(
                f"generation_config: {name} has no counterpart here; it may say {known}"
            )
    found |= {ours: said[name] for name, ours in _NUMBERS.items() if name in said}
    found |= {ours: begun + said[name] for name, ours in _ADDED.items() if name in said}
    return found | _how(said)


def _how(said: dict[str, Any]) -> dict[str, Any]:
    """How words are found: searched by beams, drawn, or the likeliest each time."""
    drawn, beams = said.get("do_sample", False), said.get("num_beams", 1)
    if drawn and (beams > 1 or {"top_k", "top_p"} <= said.keys()):
        raise ConfigError(
            "generation_config: do_sample goes with one of top_k and top_p, and without num_beams"
        )
    if beams > 1:
        groups = said.get("num_beam_groups", 1)
        return {"generation_type": "beam_search", "num_beams": beams, "num_beam_groups": groups}
    if drawn and "top_p" in said:
        return {"generation_type": "top_p", "top_p": said["top_p"]}
    return {"generation_type": "top_k", "top_k": said.get("top_k", _WORDS) if drawn else 1}
