"""What is found out about towers that other libraries build."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from diptych.errors import ConfigError, DiptychError, first_line


@contextmanager
def foreign_build(what: str) -> Generator[None, None, None]:
    """While another library builds `what`: raises ConfigError with what it says for a configuration
    that it can't build."""
    try:
        yield
    except (DiptychError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever its constructors raise for sizes that don't fit
        raise ConfigError(f"{what} can't be built: {first_line(error)}") from error


def said(options: Mapping[str, Any]) -> str:
    """A configuration's options, in a sentence."""
    return ", ".join(f"{name} {value!r}" for name, value in options.items()) or "no options"


def repeated_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the innermost containers whose members are all of one class and have parts
    themselves."""
    for child in module.children():
        inner = list(repeated_blocks(child))
        parts = list(child.children())
        same = len({type(part) for part in parts}) == 1 and any(parts[0].children())
        if not inner and same and isinstance(child, nn.ModuleList | nn.Sequential):
            inner = parts
        yield from inner


def count_flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations of `module(example)` in evaluation, counted while it runs; a
    multiply-add counts two."""
    from torch.utils.flop_counter import FlopCounterMode  # 70 MB: it imports Triton

    training = module.training
    # Attention as matrix products: torch before 2.13 doesn't count the CPU's fused kernel.
    plain = sdpa_kernel(SDPBackend.MATH)
    # torch's counter can't follow a parameter that wants a gradient and has none, as a query has.
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        functional_call(module.eval(), weights, (example,))
    module.train(training)
    return counter.get_total_flops()
