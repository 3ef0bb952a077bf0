"""Image towers of the `timm` library."""

from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.components import ADDED
from diptych.config import ImageTowerConfig
from diptych.config.ranges import Pixels
from diptych.errors import ConfigError

_NAMES = """
img_size strict_img_size dynamic_img_size dynamic_img_pad patch_size global_pool in_chans
fc_norm final_norm pre_norm use_fc_norm head_hidden_size head_norm_first head_init_scale
embed_dim depth depths dims num_heads num_kv_heads head_dim mlp_ratio window_size channels
layers block_args base_width cardinality kernel_sizes down_kernel_size stem_type stem_width
stem_size stem_kernel_size num_features output_stride width_mult depth_mult multiplier
class_token reg_tokens num_reg_tokens no_embed_class pos_embed pos_embed_grid_size use_abs_pos_emb
use_naflex enable_patch_interpolator pool_include_prefix
use_rot_pos_emb rope_type rope_temperature rope_grid_offset ref_feat_shape
qkv_bias qkv_fused proj_bias qk_norm conv_bias conv_mlp init_values ls_init_value use_grn
swiglu_mlp swiglu_align_to scale_mlp scale_attn_inner scale_attn_norm scale_mlp_norm norm_eps
pos_embed_grid_size use_post_norm use_pre_transformer_norm use_post_transformer_norm
act_layer norm_layer
attn_type avg_down block_reduce_first replace_stem_pool zero_init_last weight_init fix_init
drop_rate drop_path_rate drop_block_rate proj_drop_rate attn_drop_rate patch_drop_rate
pos_drop_rate
"""
ARCHITECTURE = frozenset(_NAMES.split())
"""What a configuration may tell `timm.create_model`: the shape of a network. Not: where weights
lie (`checkpoint_path`, `pretrained…`, `cache_dir`), which a stranger's model.json could point at
anything, and which older versions of timm unpickle."""


@dataclass(frozen=True, kw_only=True)
class TimmConfig(ImageTowerConfig):
    """Any image tower of the `timm` library, with a projection to the shared space."""

    implementation = "diptych.families.timm.model:TimmTower"
    weights = "diptych.families.timm.weights:TimmWeights"

    name: str
    """timm's name, such as `convnext_tiny`."""
    image_size: Pixels = 224
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for `timm.create_model`, of those in ARCHITECTURE."""
    projection: Literal["linear", "classifier", "mlp", "none"] = field(
        default="linear", metadata=ADDED
    )
    """`linear`: a matrix. `classifier`: what timm would classify with, a matrix and in most models
    a bias. `mlp`: two matrices, twice as wide as the shared space and with GELU between them.
    `none`: nothing, for a trunk whose features are as wide as the shared space."""
    deploy: bool = field(default=False, metadata=ADDED)
    """The form for inference of a trunk with parallel branches (FastViT, MobileOne, RepVGG), each
    block's merged into one convolution. The vectors are the same; training wants the branches."""

    def __post_init__(self):
        super().__post_init__()
        if unknown := sorted(set(self.options) - ARCHITECTURE):
            raise ConfigError(
                f"timm's options {', '.join(unknown)} aren't passed on: "
                "a configuration says the shape of a network, nothing else"
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """What `timm.create_model` is given beside the name and the classes."""
        return dict(self.options)


@dataclass(frozen=True, kw_only=True)
class NaflexVitConfig(TimmConfig):
    """A `NaFlexVit` of timm's, for pictures of their own aspect (NaFlex; SigLIP 2,
    arXiv:2502.14786, §2.4.2)."""

    implementation = "diptych.families.timm.naflex:NaflexVitTower"
    weights = "diptych.families.timm.weights:TimmWeights"
    native = True

    image_size: Pixels = 224
    """Of no meaning: its pictures are as large as their patches."""
    patch_size: Pixels = 16
    reads_out: bool = field(default=True, metadata=ADDED)
    """Whether a vector is read out of the patches; False: they are what it is for, and the norm of
    their mean isn't there."""

    def __post_init__(self):
        super().__post_init__()
        if "patch_size" in self.options:
            raise ConfigError("options.patch_size: a NaflexVitConfig has a patch_size of its own")

    @property
    def arguments(self) -> dict[str, Any]:
        """See `TimmConfig.arguments`."""
        return dict(self.options) | {"patch_size": self.patch_size}
