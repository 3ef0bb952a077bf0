"""Which precision open_clip's words mean, and models in it.

https://github.com/mlfoundations/open_clip, src/open_clip/model.py
"""

from typing import Any

import torch
from torch import Tensor, nn

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.faces.tower import OpenClipTower
from diptych.compat.parts.attention import Attention
from diptych.compat.parts.stack import Transformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.vision import VisionTransformer
from diptych.compat.timm_model import TimmModel
from diptych.errors import UnknownNameError

_ATTENTION = (
    *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
    *("in_proj_bias", "bias_k", "bias_v"),
)

_PRECISIONS = {
    **dict.fromkeys(("fp32", "amp", "amp_bf16", "amp_bfloat16"), torch.float32),
    **dict.fromkeys(("fp16", "pure_fp16"), torch.float16),
    **dict.fromkeys(("bf16", "pure_bf16"), torch.bfloat16),
}


def dtype_of(precision: str) -> torch.dtype:
    """What towers are in; autocast is the caller's. Raises UnknownNameError for a precision that
    open_clip doesn't have either.

    >>> from diptych.compat.loading.precision import dtype_of
    >>> dtype_of("pure_bf16"), dtype_of("amp_bf16")
    (torch.bfloat16, torch.float32)
    """
    if precision not in _PRECISIONS:
        raise UnknownNameError("precision", str(precision), _PRECISIONS)
    return _PRECISIONS[precision]


def get_cast_dtype(precision: str) -> torch.dtype | None:
    """What matrices are in where norms and tables stay in float32 (`fp16`, `bf16`); None: all is in
    one precision.

    >>> from diptych.compat import get_cast_dtype
    >>> get_cast_dtype("bf16"), get_cast_dtype("pure_bf16")
    (torch.bfloat16, None)
    """
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def get_input_dtype(precision: str) -> torch.dtype | None:
    """What pixels are cast to before a model of this precision reads them; None: nothing. Models
    of Diptych's cast them themselves.

    >>> from diptych.compat import get_input_dtype
    >>> get_input_dtype("pure_fp16"), get_input_dtype("amp")
    (torch.float16, None)
    """
    cast = {"pure_bf16": torch.bfloat16, "pure_fp16": torch.float16}
    return cast.get(precision) or get_cast_dtype(precision)


def convert_weights_to_lp(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Matrices, kernels and their biases of a model or of a part become `dtype`, in place; norms,
    tables, scale and bias stay as they are. A tower that isn't open_clip's own computes in one
    precision, and becomes `dtype` as a whole.

    >>> import torch
    >>> from diptych import compat
    >>> model = compat.create_model("ViT-S-32-alt", load_weights=False)
    >>> compat.convert_weights_to_lp(model, torch.bfloat16)
    >>> model.visual.conv1.weight.dtype, model.visual.ln_post.weight.dtype
    (torch.bfloat16, torch.float32)
    """
    if isinstance(model, OpenClipTower | TimmModel):
        model.to(dtype)
        return
    for child in model.children():
        convert_weights_to_lp(child, dtype)
    for tensor in _matrices(model):
        tensor.data = tensor.data.to(dtype)


convert_weights_to_fp16 = convert_weights_to_lp
"""open_clip's older name."""


def _matrices(module: nn.Module) -> list[Tensor]:
    """What multiplies activations, of the module's own parameters."""
    found: list[Any] = []
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        found += [module.weight, module.bias]
    if isinstance(module, nn.MultiheadAttention | Attention):
        found += [own.get(name) for name in _ATTENTION]
    if isinstance(module, OpenClipModel | TextTransformer | Transformer):
        found += [own.get(name) for name in ("text_projection", "lm_head", "map_viz2txt_kv")]
    if isinstance(module, VisionTransformer):
        found.append(module.proj)
    return [tensor for tensor in found if tensor is not None]
