"""The spellings of UniRepLKNet's authors: the snippet on the card of CLIP-UniRepLKNet-L runs after
one import line.

    from diptych.compat.unireplknet import unireplknet_l

`load_state_dict(..., strict=False)` is strict there in the one thing that matters: the classifier
may lack, the trunk may not. With the authors' class a file whose names begin otherwise loads
nothing, and one in training form loads unmerged into a model in deploy form, both without a word.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from diptych import pretrained
from diptych.errors import CheckpointError
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.deploy import in_form
from diptych.families.unireplknet.layouts import names as unireplknet_trunk
from diptych.families.unireplknet.layouts import trunk as unireplknet
from diptych.models import build_tower
from diptych.weights.mapping import Table, check_fit
from diptych.weights.state import State


class Classifier(nn.Module):
    """A UniRepLKNet and a linear classifier. `load_state_dict` takes the published names.

    >>> import torch
    >>> from diptych.compat.unireplknet import unireplknet_a
    >>> model = unireplknet_a(num_classes=10).eval()
    >>> model(torch.zeros(1, 3, 64, 64)).shape, model.forward_features(torch.zeros(1, 3, 64, 64)).shape
    (torch.Size([1, 10]), torch.Size([1, 320]))
    """

    def __init__(self, config: UniRepLKNetConfig, num_classes: int):
        super().__init__()
        self.trunk = build_tower(config, None)
        self.head = nn.Linear(self.trunk.width, num_classes)
        self.trunk.init()
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward_features(
        self, x: Float[Tensor, "batch 3 height wide"]
    ) -> Float[Tensor, "batch width"]:
        """What the classifier reads, and a CLIP model projects: the normed mean of the last map."""
        return self.trunk.pooled(x)

    def forward(self, x: Float[Tensor, "batch 3 height wide"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes."""
        return self.head(self.forward_features(x))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Published weights, whatever stands before their names. A training form is merged if this
        model is in deploy form.

        `strict=False`: the classifier may lack, and names beside the trunk's are passed by; both
        are returned, as torch does. Raises CheckpointError for a trunk that isn't whole or doesn't
        fit, for a classifier of another size, for merged weights where this model is in training
        form; and for any other difference if `strict`."""
        names, config = State.of(state_dict), self.trunk.config
        assert isinstance(config, UniRepLKNetConfig)
        prefix = unireplknet.prefix_of(names)
        table = Table(rules=unireplknet_trunk.rules(prefix))
        beside = table.unknown(names)
        trunk = table.to_ours(
            State({name: lazy for name, lazy in names.lazies.items() if name not in beside})
        )
        state, told = in_form(trunk.part("image."), config)
        if told.deploy and not config.deploy:
            raise CheckpointError(
                "these weights are merged, and this model isn't; build it with deploy=True"
            )
        check_fit(state.shapes, self.trunk.state_dict())
        head = State(
            {name: names.lazies[f"{prefix}{name}"] for name in _HEAD if f"{prefix}{name}" in names}
        )
        missing = [name for name in _HEAD if name not in head]
        unexpected = [name for name in beside if name.removeprefix(prefix) not in _HEAD]
        if strict and (missing or unexpected):
            first = ", ".join([*missing, *unexpected][:3])
            raise CheckpointError(f"{first} lack or are too many; strict=False passes them by")
        if not missing:
            check_fit(
                head.shapes,
                {f"head.{name}": value for name, value in self.head.state_dict().items()},
            )
            self.head.load_state_dict(dict(head.part("head.")), assign=assign)
        self.trunk.load_state_dict(dict(state), assign=assign)
        return _IncompatibleKeys(missing, unexpected)


_HEAD = ("head.weight", "head.bias")


def _factory(variant: str) -> Callable[..., Classifier]:
    """The authors' function for a published size."""

    def build(
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = 1e-6,
        deploy: bool = False,
    ) -> Classifier:
        config = pretrained.tower(f"unireplknet-{variant}")
        assert isinstance(config, UniRepLKNetConfig)
        config = replace(
            config,
            stochastic_depth=drop_path_rate,
            layer_scale=layer_scale_init_value or None,
            deploy=deploy,
        )
        return Classifier(config, num_classes)

    build.__name__ = build.__qualname__ = f"unireplknet_{variant}"
    build.__doc__ = f"UniRepLKNet-{variant.upper()} with random weights, in training form or, with `deploy`, merged."
    return build


unireplknet_a = _factory("a")
unireplknet_f = _factory("f")
unireplknet_p = _factory("p")
unireplknet_n = _factory("n")
unireplknet_t = _factory("t")
unireplknet_s = _factory("s")
unireplknet_b = _factory("b")
unireplknet_l = _factory("l")
unireplknet_xl = _factory("xl")
