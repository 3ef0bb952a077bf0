"""A model of timm's as an image tower, alone: the class that open_clip builds such towers of.

https://github.com/mlfoundations/open_clip, src/open_clip/timm_model.py
"""

# timm says no types of its own.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diptych.compat.parts.locks import NamedGroups, lock_depths
from diptych.compat.parts.stack import check_impl
from diptych.compat.utils import freeze_batch_norm_2d, to_2tuple
from diptych.errors import AssumptionWarning, ConfigError
from diptych.models.foreign import foreign_build, said
from diptych.models.shapes import shapes_only

_POOLS = ("abs_attn", "rot_attn")
"""Attention pools of timm's over a grid, in place of the trunk's own."""
_PROJECTIONS = ("linear", "mlp", "none", "", None)


@runtime_checkable
class _Undecayed(Protocol):
    def no_weight_decay(self) -> Collection[str]: ...


@runtime_checkable
class _Resizable(Protocol):
    def set_input_size(self, img_size: Any) -> None: ...


@runtime_checkable
class _OfTokens(Protocol):
    num_prefix_tokens: int
    forward_features: Any
    forward_head: Any


@runtime_checkable
class _Computing(Protocol):
    def init_non_persistent_buffers(self) -> None: ...


class TimmModel(nn.Module):
    """`trunk`, timm's model without its classifier, and `head`, which projects what that pools.

    >>> import torch
    >>> from diptych.compat.timm_model import TimmModel
    >>> model = TimmModel("resnet10t", 16, image_size=64)
    >>> model(torch.zeros(1, 3, 64, 64)).shape, model.layer_groups()[-1]
    (torch.Size([1, 16]), ('proj', [Sequential(
      (drop): Dropout(p=0.0, inplace=False)
      (proj): Linear(in_features=512, out_features=16, bias=False)
    )]))
    """

    def __init__(
        self,
        model_name: str,
        embed_dim: int,
        image_size: int | tuple[int, int] = 224,
        pool: str = "avg",
        proj: str | None = "linear",
        proj_bias: bool = False,
        drop: float = 0.0,
        drop_path: float | None = None,
        patch_drop: float | None = None,
        pretrained: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        output_tokens: bool = False,
    ):
        """`pool`: the trunk's, or one of timm's attention pools (`abs_attn`, `rot_attn`). `proj`:
        `linear`, `mlp`, `none`; None or empty: the trunk's classifier projects. `drop`: dropout
        before the projection; `drop_path`, `patch_drop`: the trunk's rates in training;
        `pretrained`: with timm's weights of it; `model_kwargs`: what else timm is given.
        `output_tokens`: whether a call gives tokens, too, as open_clip's main branch has it.

        Raises ConfigError for what timm can't build, and where it isn't installed."""
        super().__init__()
        if proj not in _PROJECTIONS:
            raise ConfigError(f"proj {proj!r}: linear, mlp, none, or None for the classifier")
        self.image_size: tuple[int, int] = to_2tuple(image_size)
        """In pixels, as it was said; the trunk may take others."""
        options: dict[str, Any] = {"drop_path_rate": drop_path, "patch_drop_rate": patch_drop}
        options = {name: value for name, value in options.items() if value is not None}
        options |= dict(model_kwargs or {})
        classifies = not proj and pool not in _POOLS
        if classifies or (proj == "none" and pool not in _POOLS):
            options |= {"num_classes": embed_dim if classifies else 0, "global_pool": pool}
        self._made_of = (model_name, options)
        self.trunk: Any = _built(model_name, options | {"pretrained": pretrained})
        layers: dict[str, nn.Module] = OrderedDict()
        if pool in _POOLS:
            self.trunk.reset_classifier(0, global_pool="")
            layers["pool"] = _pool(self.trunk, pool, embed_dim)
        elif proj in ("linear", "mlp"):
            self.trunk.reset_classifier(0, **({"global_pool": pool} if pool else {}))
        width = embed_dim if pool in _POOLS else self.trunk.num_features
        if proj == "linear":
            layers["drop"] = nn.Dropout(drop)
            layers["proj"] = nn.Linear(width, embed_dim, bias=proj_bias)
        elif proj == "mlp":
            from timm.layers.mlp import Mlp

            bias, rates = (True, proj_bias), (drop, 0.0)
            layers["mlp"] = Mlp(width, 2 * embed_dim, embed_dim, drop=rates, bias=bias)
        self.head = nn.Sequential(OrderedDict(layers))
        self.output_tokens = output_tokens

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, to which pixels are cast."""
        return next(self.parameters()).dtype

    @property
    def patch_drop(self) -> float:
        """The share of each picture's patches that is left out in training."""
        drops = (each for each in self.trunk.modules() if isinstance(each, _patch_dropouts()))
        return max((each.prob for each in drops), default=0.0)

    def set_dropout(self, drop: float, drop_path: float, patch_drop: float) -> None:
        """In training, leave out this share before the projection, branches of the trunk at the
        rates that timm makes of `drop_path`, and `patch_drop` of the patches. Raises ConfigError
        for a trunk that can't."""
        from timm.layers.drop import DropPath

        for module in self.head.modules():
            if isinstance(module, nn.Dropout):
                module.p = drop
                break  # what stands behind the first layer of an `mlp`; its second has none
        rates = {"drop_path_rate": drop_path, "patch_drop_rate": patch_drop}
        rates = {name: rate for name, rate in rates.items() if rate}
        if not rates:
            return
        name, options = self._made_of
        with shapes_only():
            twin = _built(name, options | rates)
        for place, module in twin.named_modules():
            if isinstance(module, (DropPath, *_patch_dropouts())):
                self.trunk.set_submodule(place, module.train(self.training))

    def fill_computed(self) -> None:
        """Compute the trunk's tables that no state dict has, where it was made without numbers and
        was given some."""
        device = next(self.parameters()).device
        for module in self.trunk.modules():
            for name, table in module._buffers.items():
                if table is not None and table.is_meta:
                    module._buffers[name] = torch.empty_like(table, device=device)
            if isinstance(module, _Computing) and device.type != "meta":
                module.init_non_persistent_buffers()

    def forward(self, x: Any) -> Any:
        """Vectors of pixels, or of what else the trunk takes (`compat.faces.naflex`); with
        `output_tokens`, of a trunk that has tokens, by name: `pooled`, `patch_tokens` and
        `patch_valid`, which of these there are (None: all). Raises ConfigError with it for a trunk
        without tokens."""
        x = self.given(x)
        if not self.output_tokens:
            return self.head(self.trunk(x))
        if not isinstance(self.trunk, _OfTokens):
            kind = type(self.trunk).__name__
            raise ConfigError(f"a {kind} of timm's gives no tokens; leave output_tokens False")
        if isinstance(x, Mapping):
            given = {name: x[name] for name in ("patches", "patch_coord", "patch_valid")}
            features = self.trunk.forward_features(**given)
            tokens, valid = features["patches"], features["patch_valid"]
            pooled = self.trunk.forward_head(**features)
        else:
            tokens, valid = self.trunk.forward_features(x), None
            pooled = self.trunk.forward_head(tokens)
        own = tokens[:, self.trunk.num_prefix_tokens :]
        return {"pooled": self.head(pooled), "patch_tokens": own, "patch_valid": valid}

    def given(self, x: Any) -> Any:
        """What the trunk is given: pixels in the weights' precision."""
        return x.to(self.dtype) if isinstance(x, Tensor) else x

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch 3 height width"],
        indices: int | Collection[int] | None = None,
        stop_early: bool = False,
        normalize_intermediates: bool = False,
        intermediates_only: bool = False,
        output_fmt: str = "NCHW",
        output_extra_tokens: bool = False,
    ) -> dict[str, Any]:
        """What the trunk's blocks or stages of `indices` give: `image_intermediates`; where asked
        for `image_intermediates_prefix`, the tokens before the patches; and `image_features`."""
        options = {"return_prefix_tokens": True} if output_extra_tokens else {}
        last, found = self.trunk.forward_intermediates(
            self.given(x),
            indices=indices,
            norm=normalize_intermediates,
            stop_early=stop_early and intermediates_only,
            output_fmt=output_fmt,
            **options,
        )
        output: dict[str, Any] = {"image_intermediates": found}
        if output_extra_tokens and found and isinstance(found[0], tuple):
            output["image_intermediates"] = [patches for patches, _ in found]
            output["image_intermediates_prefix"] = [prefix for _, prefix in found]
        if not intermediates_only:
            output["image_features"] = self.head(self.trunk.forward_head(last))
        return output

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the trunk but for its last groups of layers, as timm counts them, and with
        `freeze_bn_stats` put frozen batch norms in the place of theirs. The head stays as it is."""
        groups = self._depths()
        last = max(groups) - unlocked_groups
        for depth, names in groups.items():
            lock_depths([(self.trunk.get_parameter(name), depth) for name in names], last, 0)
        if not freeze_bn_stats:
            return
        from timm.models import group_modules

        group: Any = group_modules
        depths: dict[str, int] = group(self.trunk, self.trunk.group_matcher(), reverse=True)
        frozen = {name for name, depth in depths.items() if depth <= last}
        if frozen:  # an empty set would mean all of them
            freeze_batch_norm_2d(self.trunk, frozen if unlocked_groups else ())

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """Parameters of the trunk's layers, as timm counts them, from the input on, and the head
        where it has any, by name; `pooler_in_head` has no meaning here."""
        found: NamedGroups = []
        for depth, names in sorted(self._depths().items()):
            found.append((f"layer.{depth}", [self.trunk.get_parameter(name) for name in names]))
        bare = next(self.head.parameters(), None) is None
        return found if bare else [*found, ("proj", [self.head])]

    def _depths(self) -> dict[int, list[str]]:
        from timm.models import group_parameters

        return dict(group_parameters(self.trunk, self.trunk.group_matcher()))

    def no_weight_decay(self) -> set[str]:
        """Names of the trunk's tables and tokens without weight decay, where it says them."""
        trunk: nn.Module = self.trunk
        names = trunk.no_weight_decay() if isinstance(trunk, _Undecayed) else ()
        return {f"trunk.{name}" for name in names}

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; of a trunk that can't a warning says so.
        `impl`: see `stack.check_impl`."""
        check_impl(impl)
        try:
            self.trunk.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError, NotImplementedError):
            message = f"a {type(self.trunk).__name__} of timm's has no gradient checkpointing"
            warnings.warn(message, AssumptionWarning, stacklevel=2)

    def set_input_size(self, image_size: int | tuple[int, int]) -> None:
        """Take pictures of this many pixels: of a trunk that has a say in it, its tables, too."""
        self.image_size = to_2tuple(image_size)
        if isinstance(self.trunk, _Resizable):
            self.trunk.set_input_size(self.image_size)


def _patch_dropouts() -> tuple[type[Any], ...]:
    from timm.layers.patch_dropout import PatchDropout, PatchDropoutWithIndices

    return PatchDropout, PatchDropoutWithIndices


def _built(name: str, options: Mapping[str, Any]) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigError("TimmModel needs timm: `pip install diptych[bridges]`") from error
    with foreign_build(f"timm's {name} with {said(options)}"):
        return timm.create_model(name, **options)


def _pool(trunk: Any, kind: str, embed_dim: int) -> nn.Module:
    """Raises ConfigError for a trunk whose features are no grid."""
    from timm.layers.attention_pool2d import AttentionPool2d, RotAttentionPool2d

    size = trunk.default_cfg.get("pool_size")
    if not size:
        raise ConfigError(f"pool {kind!r} is over a grid, and a {type(trunk).__name__} gives none")
    if kind == "rot_attn":
        return RotAttentionPool2d(trunk.num_features, out_features=embed_dim)
    return AttentionPool2d(trunk.num_features, feat_size=size, out_features=embed_dim)
