"""open_clip's text tower of a Hugging Face model: `model.text` of the models that have one.

https://github.com/mlfoundations/open_clip, src/open_clip/hf_model.py
"""

import os
import re
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from diptych.compat.hf_configs import arch_dict as arch_dict
from diptych.compat.parts.locks import NamedGroups, lock_depths, lock_groups
from diptych.compat.parts.stack import check_impl
from diptych.errors import CheckpointError, ConfigError, first_line
from diptych.families.huggingface.config import Pool
from diptych.families.huggingface.known import known
from diptych.families.huggingface.layouts import cached, trunk_of, with_head
from diptych.families.huggingface.model import pooled, run
from diptych.families.huggingface.options import has_pooling_layer
from diptych.models import Tower, build_tower

_TABLES = ("position_embeddings", "token_type_embeddings", "relative_attention_bias")


@runtime_checkable
class Trunked(Protocol):
    """A tower around a model of transformers'."""

    config: Any
    trunk: Any
    projection: nn.Module
    training: bool


class _Pooler(nn.Module):
    """One vector of each text, of what transformers' model says of it."""

    pool: ClassVar[Pool] = "cls"
    cls_token_position = 0

    def forward(
        self, x: Any, attention_mask: Bool[Tensor, "batch length"] | Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch width"]:
        """`attention_mask`: which tokens aren't padding."""
        return pooled(x, attention_mask.bool(), self.pool)


class MeanPooler(_Pooler):
    """The mean over the tokens that aren't padding."""

    pool = "mean"


class MaxPooler(_Pooler):
    """The greatest of each place, over the tokens that aren't padding."""

    pool = "max"


class ClsPooler(_Pooler):
    """transformers' own pooling layer; the first token where the model has none, or without
    `use_pooler_output`."""

    def __init__(self, use_pooler_output: bool = True):
        super().__init__()
        self.use_pooler_output = use_pooler_output

    def forward(self, x: Any, attention_mask: Tensor) -> Float[Tensor, "batch width"]:
        """See `_Pooler`."""
        has = self.use_pooler_output and x.get("pooler_output") is not None
        return pooled(x, attention_mask.bool(), "head" if has else "cls")


class ClsLastHiddenStatePooler(_Pooler):
    """The first token."""


_POOLERS: dict[str, type[Any]] = {
    "mean_pooler": MeanPooler,
    "max_pooler": MaxPooler,
    "cls_pooler": ClsPooler,
    "cls_last_hidden_state_pooler": ClsLastHiddenStatePooler,
}
_POOLERS_OF: dict[Pool, tuple[type[_Pooler], ...]] = {
    "mean": (MeanPooler,),
    "max": (MaxPooler,),
    "cls": (ClsPooler, ClsLastHiddenStatePooler),
    "head": (ClsPooler,),
}
"""What stands for a pool; the first where nobody says it."""


def register_pooler(cls: type[Any]) -> type[Any]:
    """Make a pooler of one's own known by its name in small letters: `class FirstPooler` is
    `HFTextEncoder(..., pooler_type="first_pooler")`. It takes transformers' output and the mask."""
    _POOLERS[re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()] = cls
    return cls


class HFTextEncoder(nn.Module):
    """`transformer`, `pooler` and `proj`; what stands there is what a call computes.

    >>> import transformers
    >>> from diptych.compat.hf_model import HFTextEncoder
    >>> sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    >>> config = transformers.BertConfig(vocab_size=50, intermediate_size=64, **sizes)
    >>> HFTextEncoder("bert", 16, config, "mean_pooler", "linear").proj
    Linear(in_features=32, out_features=16, bias=False)
    """

    def __init__(
        self,
        model_name_or_path: str,
        output_dim: int,
        config: Any = None,
        pooler_type: str | None = None,
        proj_type: str | None = None,
        pretrained: bool = True,
        output_tokens: bool = False,
    ):
        """`config`: of transformers'; without it, `model_name_or_path` is a folder or a name, whose
        configuration and, with `pretrained`, weights lie in the hub's cache: nothing is fetched.
        Raises CheckpointError where they don't."""
        own = pooler_type in _POOLERS and not issubclass(_POOLERS[pooler_type], _Pooler)
        trunk = _trunk(model_name_or_path, config)
        text = with_head(trunk, "mean_pooler" if own else pooler_type, proj_type)
        tower = build_tower(text, output_dim)
        assert isinstance(tower, Trunked)
        tower.init()
        if pretrained and config is None:
            tower.trunk.load_state_dict(_weights(model_name_or_path, text))
        kind = _POOLERS_OF[text.pool][0] if pooler_type is None else _POOLERS[pooler_type]
        self._take(tower, output_dim, kind)
        self.output_tokens = output_tokens
        """Whether a call gives (pooled, tokens)."""

    @classmethod
    def of(cls, tower: Tower[Any], output_dim: int) -> "HFTextEncoder | None":
        """The tower by these names, over the same weights; None: open_clip has it in another way,
        or no such pool, or nothing between trunk and pool."""
        if not isinstance(tower, Trunked) or tower.config.pool not in _POOLERS_OF:
            return None
        if tower.config.token_width is not None:
            return None
        made = cls.__new__(cls)
        first = tower.config.pool == "cls" and has_pooling_layer(tower.config.model_type)
        kind = ClsLastHiddenStatePooler if first else _POOLERS_OF[tower.config.pool][0]
        made._take(tower, output_dim, kind)
        made.output_tokens = False
        return made.train(tower.training)

    def _take(self, tower: Trunked, output_dim: int, pooler: type[Any]) -> None:
        super().__init__()
        self.output_dim = output_dim
        self._kind: type[Any] = type(tower)
        self._sizes = tower.config
        self.transformer = tower.trunk
        self.pooler = pooler()
        self.proj = tower.projection
        self.config: Any = tower.trunk.config
        """transformers'."""
        said = self.config.to_dict()
        self.vocab_size: int = said.get("vocab_size", 0)
        self.context_length: int = said.get("max_position_embeddings", 0)
        """Places that the trunk has; 0: it doesn't say. What a text is cut to says the model."""

    @property
    def tower(self) -> Tower[Any]:
        """As Diptych has it, of the same modules. Raises ConfigError where the pooler was replaced
        by one of another kind."""
        if not isinstance(self.pooler, _POOLERS_OF[self._sizes.pool]):
            raise ConfigError(
                f"the text tower's pooler is a {type(self.pooler).__name__}, so the model is none "
                "of Diptych's any more"
            )
        tower = self._of_parts()
        tower.training = self.training
        return tower

    @property
    def units(self) -> list[nn.Module]:
        """The trunk's blocks."""
        return self._of_parts().units

    def _of_parts(self) -> Tower[Any]:
        return self._kind(self._sizes, self.transformer, self.proj)

    def forward(self, x: Int[Tensor, "batch length"]) -> Any:
        """Vectors of ids, or with `output_tokens` (vectors, the trunk's last features): without the
        first token's where `cls_pooler` took that."""
        output, real = run(self.transformer, x, self._sizes.pad_id)
        vectors = self.proj(self.pooler(output, real))
        if not self.output_tokens:
            return vectors
        tokens = output.last_hidden_state
        return vectors, tokens[:, 1:] if isinstance(self.pooler, ClsPooler) else tokens

    def lock(
        self,
        unlocked_layers: int = 0,
        freeze_layer_norm: bool = True,
        pooler_in_head: bool | None = None,
    ) -> None:
        """Freeze all but the last blocks of the trunk; a layer before the first block counts as
        one. The projection stays as it is, and so do norms without `freeze_layer_norm`.

        `pooler_in_head` counts as open_clip's main branch does: all but the last of
        `layer_groups(pooler_in_head)`, the projection among them, which are trained."""
        tower = self._of_parts()
        norms: set[nn.Parameter] = set()
        for module in () if freeze_layer_norm else tower.modules():
            norms |= set(module.parameters()) if isinstance(module, nn.LayerNorm) else set()
        if pooler_in_head is not None:
            groups = [group for _, group in self.layer_groups(pooler_in_head)]
            lock_groups(
                [[each for each in g if each not in norms] for g in groups], unlocked_layers
            )
            return
        depths: list[tuple[nn.Parameter, int]] = []
        for name, parameter in tower.named_parameters():
            if name.startswith("trunk.") and parameter not in norms:
                depths.append((parameter, tower.layer_of(name)))
        last = tower.layers - 1 if unlocked_layers else tower.layers
        lock_depths(depths, last, unlocked_layers)

    def layer_groups(self, pooler_in_head: bool = True) -> NamedGroups:
        """Parameters of the tables, of each block, the last one with the norm behind it, and of the
        projection, by name; the trunk's pooling layer with the latter, or before it."""
        tower, own = self._of_parts(), dict[str, list[Any]]()
        for name, parameter in tower.named_parameters():
            depth = min(tower.layer_of(name), tower.layers - 1)
            title = "embeddings" if depth == 0 else f"layer.{depth - 1}"
            if name.startswith("trunk.pooler."):
                title = "pooler"
            elif not name.startswith("trunk."):
                title = "proj"
            own.setdefault(title, []).append(parameter)
        pooler = own.pop("pooler", [])
        head = own.pop("proj", []) + (pooler if pooler_in_head else [])
        apart = [] if pooler_in_head else [("pooler", pooler)]
        behind = [*apart, ("proj", head)]
        return [*own.items(), *((name, members) for name, members in behind if members)]

    def no_weight_decay_patterns(self) -> list[str]:
        """Globs of the trunk's tables of places, kinds and distances, which have no weight
        decay."""
        return [f"transformer.*{table}.weight" for table in _TABLES]

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass; `impl`: see `stack.check_impl`."""
        check_impl(impl)
        self._of_parts().set_checkpointing(enable)


def _trunk(name: str, config: Any) -> Any:
    """How transformers builds it."""
    if config is not None:
        return trunk_of(config)
    if not os.path.isdir(name):
        return known(name) or cached(name)
    from transformers import AutoConfig

    try:
        return trunk_of(AutoConfig.from_pretrained(name, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} describes no text model: {first_line(error)}") from error


def _weights(name: str, text: Any) -> dict[str, Tensor]:
    """Of the trunk, from a folder or the hub's cache."""
    from transformers import AutoModel

    try:
        model: Any = AutoModel.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no weights of {name} lie in the hub's cache ({first_line(error)}); fetch them first: "
            f"hf download {name}; or leave the text tower random: pretrained=False"
        ) from error
    trunk = model.encoder if model.config.is_encoder_decoder else model
    state: dict[str, Tensor] = trunk.state_dict()
    if text.pool == "head":
        return state
    return {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
