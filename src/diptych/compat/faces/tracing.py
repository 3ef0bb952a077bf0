"""Models as TorchScript."""

import warnings
from typing import Any

import torch

from diptych.compat.faces.face import OpenClipModel
from diptych.compat.utils import to_2tuple
from diptych.errors import ConfigError, first_line


def trace_model(
    model: OpenClipModel, batch_size: int = 256, device: str | torch.device = "cpu"
) -> Any:
    """The model as TorchScript that needs no Diptych to run: a call, `encode_image` and
    `encode_text` were traced in evaluation mode with `batch_size` examples, and take any number of
    pictures and texts of the model's own size. They take these tensors alone: no `normalize`.

    Raises ConfigError for a model that can't be traced.

    >>> import torch
    >>> from diptych import compat
    >>> model = compat.create_model("tiny", load_weights=False)
    >>> traced = compat.trace_model(model, batch_size=2)
    >>> traced.encode_image(torch.zeros(3, 3, 48, 48)).shape
    torch.Size([3, 128])
    """
    model.eval()
    size = model.visual.image_size
    pixels = torch.ones(batch_size, 3, *to_2tuple(size), device=device)
    ids = torch.zeros(batch_size, model.context_length, dtype=torch.int, device=device)
    inputs = {"forward": (pixels, ids), "encode_text": (ids,), "encode_image": (pixels,)}
    trace: Any = torch.jit.trace_module
    # The warnings tell that sizes become constants, which they are (the batch isn't among them),
    # and that TorchScript won't be there for ever.
    with warnings.catch_warnings(action="ignore"):
        try:
            # A dictionary of the same keys at each call is what `strict` asks to be confirmed;
            # torch's check of graphs fails for several methods of one module, open_clip's, too.
            traced = trace(model, inputs=inputs, strict=False, check_trace=False)
        except (RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"TorchScript can't trace this {type(model).__name__} ({first_line(error)}); "
                "leave out jit"
            ) from error
    traced.visual.image_size = size
    return traced
