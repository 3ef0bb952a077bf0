"""The spellings of UniRepLKNet's authors: the snippet on the card of CLIP-UniRepLKNet-L runs after
one import line.

    from diptych.compat.unireplknet import unireplknet_l

`load_state_dict(..., strict=False)` is strict there in the one thing that matters: the classifier
may be missing, the trunk may not. With the authors' class a file whose names have another prefix
loads nothing, and one in training form loads unmerged into a model in deploy form, both without a
word.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import (
    _IncompatibleKeys,  # pyright: ignore[reportPrivateUsage]: torch has no public name for it
)

from diptych.errors import CheckpointError
from diptych.families.unireplknet.config import UniRepLKNetConfig
from diptych.families.unireplknet.deploy import in_form
from diptych.families.unireplknet.layouts import names as trunk_names
from diptych.families.unireplknet.layouts.trunk import prefix_of
from diptych.families.unireplknet.pretrained import TOWERS
from diptych.models import build_tower
from diptych.weights.mapping import Table, check_fit
from diptych.weights.state import Lazy, State


class Classifier(nn.Module):
    """A UniRepLKNet and a linear classifier. `load_state_dict` takes the published names.

    >>> import torch
    >>> from diptych.compat.unireplknet import unireplknet_a
    >>> model, pixels = unireplknet_a(num_classes=10).eval(), torch.zeros(1, 3, 64, 64)
    >>> model(pixels).shape, model.forward_features(pixels).shape
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
        """The input of the classifier, and of a CLIP model's projection: the norm of the last
        feature map's mean."""
        return self.trunk(x, tokens="none").pooled

    def forward(self, x: Float[Tensor, "batch 3 height wide"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes."""
        return self.head(self.forward_features(x))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Published weights, whatever stands before their names. A training form is merged if this
        model is in deploy form.

        `strict=False`: the classifier may be missing, and names beside the trunk's and the
        classifier's are ignored; both are returned, as torch does. Raises CheckpointError for a
        trunk that isn't whole or doesn't fit, for a classifier of another size, for merged weights
        where this model is in training form; and for any other difference if `strict`.
        """
        trunk, head, unexpected = _split(State.of(state_dict))
        trunk = self._in_own_form(trunk)
        check_fit(trunk.shapes, self.trunk.state_dict())
        expected = self.head.state_dict(prefix="head.")
        missing = [name for name in expected if name not in head]
        if strict and (missing or unexpected):
            first = ", ".join([*missing, *unexpected][:3])
            raise CheckpointError(f"{first} are missing or unexpected; strict=False allows that")
        check_fit(head.shapes, {name: expected[name] for name in head})
        # Nothing is loaded before everything was checked.
        self.head.load_state_dict(dict(head.part("head.")), strict=False, assign=assign)
        self.trunk.load_state_dict(dict(trunk), assign=assign)
        return _IncompatibleKeys(missing, unexpected)

    def _in_own_form(self, trunk: State) -> State:
        """The trunk's weights in this model's form. Raises CheckpointError for merged weights where
        this model is in training form: what is merged can't be taken apart."""
        config = self.trunk.config
        assert isinstance(config, UniRepLKNetConfig)
        state, found = in_form(trunk, config)
        if found.deploy and not config.deploy:
            raise CheckpointError(
                "these weights are merged, and this model isn't; build it with deploy=True"
            )
        return state


_HEAD = ("head.weight", "head.bias")


def _split(published: State) -> tuple[State, State, list[str]]:
    """Published weights as the trunk's under our names, the classifier's as `head.*`, and the names
    that are neither's."""
    prefix = prefix_of(published)
    table = Table(rules=trunk_names.rules(prefix))
    beside = table.unknown(published)
    trunk = {name: lazy for name, lazy in published.lazies.items() if name not in beside}
    head, unexpected = dict[str, Lazy](), list[str]()
    for name in beside:
        plain = name.removeprefix(prefix)
        if plain in _HEAD:
            head[plain] = published.lazies[name]
        else:
            unexpected.append(name)
    return table.to_ours(State(trunk)).part("image."), State(head), unexpected


def _factory(variant: str) -> Callable[..., Classifier]:
    """The authors' function for a published size; its arguments are theirs.

    `layer_scale_init_value`: None or 0 for no layer scale. `drop_path_rate`: stochastic depth.
    """

    def build(
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = 1e-6,
        deploy: bool = False,
    ) -> Classifier:
        config = replace(
            TOWERS[f"unireplknet-{variant}"],
            layer_scale=layer_scale_init_value or None,
            deploy=deploy,
        )
        model = Classifier(config, num_classes)
        model.trunk.set_stochastic_depth(drop_path_rate)
        return model

    build.__name__ = build.__qualname__ = f"unireplknet_{variant}"
    build.__doc__ = (
        f"UniRepLKNet-{variant.upper()} with random weights, in training form or, with `deploy`, "
        "merged."
    )
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
