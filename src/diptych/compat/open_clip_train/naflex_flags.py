"""The flags of batches of pictures of their own aspect, for training loops of one's own:
`diptych train` makes such batches in another way, so that the command line refuses them.

https://github.com/mlfoundations/open_clip, src/open_clip_train/params.py
"""

from collections.abc import Sequence
from typing import Any

from diptych.compat.open_clip_train.parse import FlagParser

_LISTS = {
    "patch_sizes": int,
    "patch_size_probs": float,
    "seq_lens": int,
    "seq_len_probs": float,
}
_NUMBERS = ("max_tokens_per_batch", "num_train_image_tokens", "max_text_tokens", "pad_multiple")
_SCALES = ("none", "linear", "sqrt")


def naflex_of(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What these flags say, by open_clip's names, and the words that are none of them. Raises
    ConfigError for a value that doesn't fit.

    >>> from diptych.compat.open_clip_train.naflex_flags import naflex_of
    >>> found, rest = naflex_of(["--use-naflex", "--naflex-seq-lens", "128", "256", "--lr", "1e-3"])
    >>> found["use_naflex"], found["naflex_seq_lens"], rest
    (True, [128, 256], ['--lr', '1e-3'])
    """
    parser = FlagParser(add_help=False, allow_abbrev=False)
    for name in ("use-naflex", "force-naflex-vision"):
        parser.add_argument(f"--{name}", action="store_true")
    for name, kind in _LISTS.items():
        parser.add_argument(_flag(name), type=kind, nargs="+")
    for name in _NUMBERS:
        parser.add_argument(_flag(name), type=int)
    parser.add_argument(_flag("batch_divisor"), type=int, default=8)
    parser.add_argument(_flag("loss_scale"), choices=_SCALES, default="none")
    found, rest = parser.parse_known_args(words)
    said = vars(found)
    said["force_naflex_vision"] |= said["use_naflex"]
    return said, rest


def _flag(name: str) -> str:
    return "--" + f"naflex_{name}".replace("_", "-")
