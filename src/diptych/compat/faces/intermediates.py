"""What the blocks of a model with open_clip's face give, in open_clip's form."""

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn


@runtime_checkable
class HasIntermediates(Protocol):
    """A model whose towers give what their blocks give."""

    visual: Any
    logit_scale: nn.Parameter
    logit_bias: nn.Parameter | None

    def text_intermediates(self, text: Tensor, **options: Any) -> dict[str, Any]: ...
    def logits(self, images: Tensor, texts: Tensor) -> Tensor: ...


def forward_intermediates(
    model: HasIntermediates,
    image: Tensor | None = None,
    text: Tensor | None = None,
    image_indices: int | Collection[int] | None = None,
    text_indices: int | Collection[int] | None = None,
    stop_early: bool = False,
    normalize: bool = True,
    normalize_intermediates: bool = False,
    intermediates_only: bool = False,
    image_output_fmt: str = "NCHW",
    image_output_extra_tokens: bool = False,
    text_output_fmt: str = "NLC",
    text_output_extra_tokens: bool = False,
    output_logits: bool = False,
    output_logit_scale_bias: bool = False,
    text_valid: Tensor | None = None,
) -> dict[str, Any]:
    """The pooled vectors of pictures and texts, and what stands behind the blocks on the way.

    | option                       |                                                          |
    | ---------------------------- | -------------------------------------------------------- |
    | image_indices, text_indices  | blocks: the last so many, these numbers, None: all       |
    | stop_early                   | the blocks behind the last of them don't run             |
    | normalize                    | pooled vectors of unit length                            |
    | normalize_intermediates      | the final norm over the blocks' tokens, too              |
    | intermediates_only           | no pooled vectors                                        |
    | image_output_fmt             | NCHW: grids [batch, width, rows, columns]; NLC: tokens   |
    | text_output_fmt              | NLC                                                      |
    | ..._output_extra_tokens      | class tokens, apart (`..._prefix`, `..._suffix`)         |
    | output_logits                | `image_logits`, `text_logits`                            |
    | output_logit_scale_bias      | `logit_scale`, `logit_bias`                              |
    | text_valid                   | see `OpenClipModel.encode_text`                          |

    Raises AssertionError, as open_clip does, for numbers of blocks that aren't there and for logits
    without both inputs, and ConfigError for a tower of which open_clip doesn't give any.
    """
    normalize, output_logits = (
        each and not intermediates_only for each in (normalize, output_logits)
    )
    if output_logits and (image is None or text is None):
        raise AssertionError("Both image and text inputs are required to compute logits")
    common = {
        "stop_early": stop_early,
        "normalize_intermediates": normalize_intermediates,
        "intermediates_only": intermediates_only,
    }
    output: dict[str, Any] = {}
    if image is not None:
        output |= model.visual.forward_intermediates(
            image,
            indices=image_indices,
            output_fmt=image_output_fmt,
            output_extra_tokens=image_output_extra_tokens,
            **common,
        )
    if text is not None:
        output |= model.text_intermediates(
            text,
            indices=text_indices,
            output_fmt=text_output_fmt,
            output_extra_tokens=text_output_extra_tokens,
            **common,
            **({} if text_valid is None else {"text_valid": text_valid}),
        )
    for name in ("image_features", "text_features") if normalize else ():
        if name in output:
            output[name] = F.normalize(output[name], dim=-1)
    if output_logits:
        logits = model.logits(output["image_features"], output["text_features"])
        output |= {"image_logits": logits, "text_logits": logits.T}
    if output_logit_scale_bias:
        output["logit_scale"] = model.logit_scale.exp()
        if model.logit_bias is not None:
            output["logit_bias"] = model.logit_bias
    return output
