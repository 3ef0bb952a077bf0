"""When a linear layer's matrix may be used without calling the layer."""

from torch import nn


def is_bare(layer: nn.Module) -> bool:
    """Whether a call of `layer` is the product with its weight, plus its bias, and nothing else.

    Only then may a block save work by using a part or a multiple of the weight. Whatever else
    stands in a linear layer's place wants to be called: adapters (LoRA), quantised, parametrised
    and sharded layers are of other classes; hooks are registered on the layer (pruning is one); and
    offloading replaces `forward` of the one layer.

    >>> from torch import nn
    >>> from diptych.nn import is_bare
    >>> layer = nn.Linear(2, 2)
    >>> is_bare(layer)
    True
    >>> handle = layer.register_forward_hook(lambda layer, inputs, output: None)
    >>> is_bare(layer)
    False
    """
    if type(layer) is not nn.Linear or "forward" in layer.__dict__:
        return False
    # torch has no public way to ask for hooks.
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return not any(getattr(layer, name) for name in hooks)
