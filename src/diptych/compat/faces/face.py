"""A model of ours with open_clip's face."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diptych.compat.faces import intermediates
from diptych.compat.faces.names import (
    DECODER,
    TEXT,
    VISUAL,
    Renamed,
    part_of,
    table_of,
    text_prefix,
)
from diptych.compat.faces.native import (
    decoder_of,
    modern_of,
    resnet_of,
    text_of,
    vision_of,
)
from diptych.compat.faces.state import rename_loaded, rename_saved
from diptych.compat.faces.towers import OpenClipText, OpenClipTower, OpenClipVisual
from diptych.compat.faces.unwrapping import again, reshaped, unwrap
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.model_traits import CLIP_TRAITS, InputMode
from diptych.compat.modified_resnet import ModifiedResNet
from diptych.compat.parts.locks import check_norms_frozen
from diptych.compat.parts.modern import ModernTextTransformer
from diptych.compat.parts.stack import Transformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.text_parts import PARTS, Reading, encode, lock
from diptych.compat.parts.text_parts import intermediates as intermediates_of_text
from diptych.compat.parts.two_passes import MultimodalDecoder
from diptych.compat.parts.vision import VisionTransformer
from diptych.errors import ConfigError
from diptych.families.modern import ModernTextConfig
from diptych.models import Clip, Tower
from diptych.models.clip import unit
from diptych.weights.mapping import Table

M = TypeVar("M", bound="OpenClipModel")
_PARTS = {VISUAL: "image.", TEXT: "text.", DECODER: "decoder."}
_OWN = VisionTransformer | TextTransformer | ModernTextTransformer | MultimodalDecoder
"""open_clip's own towers, part by part."""


@runtime_checkable
class _GivesTokens(Protocol):
    """A tower that gives tokens where it is asked to."""

    output_tokens: bool

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Vectors, and tokens."""
        raise NotImplementedError


class OpenClipModel(Renamed):
    """`encode_image`, `encode_text`, a forward pass, parts and names of parameters as open_clip's
    `CLIP` (or `CustomTextCLIP`) has them, which `wrap` makes of it.

    Its own transformers stand here part by part (`visual.transformer.resblocks[3].attn`), and what
    stands there is what is computed. `clip` is the same model as Diptych has it, which is faster.

    Pixels are cast to the image tower's precision, so that a half-precision model needs no
    autocast.

    >>> import torch
    >>> from diptych import compat, models, pretrained
    >>> model = compat.OpenClipModel(models.build(pretrained.get("tiny")))
    >>> ids = compat.get_tokenizer("tiny")(["a cat"])
    >>> image, text, scale = model(torch.zeros(1, 3, 48, 48), ids)
    >>> image.shape, text.shape, round(scale.item(), 2)
    (torch.Size([1, 128]), torch.Size([1, 128]), 14.29)
    """

    vision_kind: ClassVar[type[VisionTransformer]] = VisionTransformer
    text_kind: ClassVar[type[TextTransformer]] = TextTransformer
    resnet_kind: ClassVar[type[ModifiedResNet]] = ModifiedResNet
    """How open_clip's own towers stand here."""
    traits = CLIP_TRAITS
    visual: Any
    text: Any
    text_decoder: Any
    token_embedding: nn.Embedding
    cls_emb: Tensor | None
    positional_embedding: Tensor
    transformer: Transformer
    ln_final: nn.Module
    text_projection: Any
    attn_mask: Tensor | None

    def __init__(self, clip: Clip, output_dict: bool = False, custom_text: bool | None = None):
        """`custom_text`: whether the text tower is `text`, and its names begin so; None: as
        open_clip's configuration has it."""
        super().__init__()
        self._custom_text = custom_text
        self.config = config = clip.config
        pictures = InputMode.NAFLEX if config.image.native else InputMode.FIXED
        variable = isinstance(config.text, ModernTextConfig) and config.text.variable_text
        self.traits = replace(type(self).traits, image_input=pictures, variable_text=variable)
        self.output_dict = output_dict
        """Whether the forward pass gives a dictionary in place of a tuple."""
        self._parts = dict(_PARTS)
        self._add_image(clip.image)
        self._say_preprocessing()
        self._add_text(clip.text)
        self.text_decoder = self._add_decoder(clip)
        self.image_tokens, self.text_tokens = clip.image_tokens, clip.text_tokens
        self.logit_scale = reshaped(clip.logit_scale)
        """The logarithm of the factor on cosine similarities, of shape []."""
        self.logit_bias = None if clip.logit_bias is None else reshaped(clip.logit_bias)
        self.register_state_dict_post_hook(rename_saved)
        self.register_load_state_dict_pre_hook(rename_loaded)

    @classmethod
    def of(
        cls: type[M], clip: Clip, output_dict: bool = False, custom_text: bool | None = None
    ) -> M:
        """This class's face for a model, whatever its own arguments are."""
        model = cls.__new__(cls)
        OpenClipModel.__init__(model, clip, output_dict, custom_text)
        return model

    def reshape_scale(self, *shape: int) -> None:
        """Give scale and bias this shape of one number."""
        self.logit_scale = reshaped(self.logit_scale, *shape)
        if self.logit_bias is not None:
            self.logit_bias = reshaped(self.logit_bias, *shape)

    def _add_image(self, tower: Tower[Any]) -> None:
        """`visual`."""
        dim, table = self.config.embed_dim, part_of(self.table, "image.", VISUAL)
        native = vision_of(tower, dim, table, self.vision_kind)
        resnet = resnet_of(tower, dim, table, self.resnet_kind)
        self.visual = native or resnet or OpenClipVisual(tower, self.config)

    def image_again(self) -> Tower[Any]:
        """The image tower as Diptych has it: see `clip`."""
        table = part_of(self.table, "image.", VISUAL)
        return again(self, self.config.image, getattr(self, "visual", None), table)

    def _say_preprocessing(self) -> None:
        """As open_clip's factories leave it at the image tower."""
        said = self.preprocess_cfg()
        self.visual.preprocess_cfg = said
        self.visual.image_mean, self.visual.image_std = said["mean"], said["std"]

    def preprocess_cfg(self) -> dict[str, Any]:
        """The fields of a `PreprocessCfg`: what pictures have to become."""
        config = self.config.preprocess
        return {
            "size": self.visual.image_size,
            "mode": "RGB",
            "mean": config.mean,
            "std": config.std,
            "interpolation": config.interpolation,
            "resize_mode": config.resize,
            "fill_color": config.fill,
        }

    def _add_text(self, tower: Tower[Any]) -> None:
        """`text`; or its parts beside `visual`, where open_clip has them there."""
        config = self.config
        prefix = text_prefix(self.table.rules)
        self.context_length: int = config.text.context_length
        """Ids of a text at the most."""
        self.vocab_size: int | None = config.text.vocabulary
        """Different ids; None: only the library that the text tower comes from can tell."""
        table = part_of(self.table, "text.", prefix)
        native = text_of(tower, config.embed_dim, table, self.text_kind)
        modern = modern_of(tower, config.embed_dim, table)
        self.text_beside = native is not None and not prefix
        """Whether the text tower's parts stand beside `visual`."""
        if native is None or not self.text_beside:
            named = HFTextEncoder.of(tower, config.embed_dim) if prefix else None
            self.text = native or modern or named or OpenClipText(tower, config, prefix)
            return
        for name in PARTS:
            setattr(self, name, getattr(native, name))
        self.register_buffer("attn_mask", native.attn_mask, persistent=False)
        self.text_pool_type, self.text_eos_id = native.pool_type, native.eos_id

    def _add_decoder(self, clip: Clip) -> Any:
        """`text_decoder`."""
        if clip.decoder is None:
            return None
        return decoder_of(clip.decoder, part_of(self.table, "decoder.", DECODER))

    def rules(self) -> Table:
        """Our names <-> open_clip's."""
        return table_of(self.config, self._custom_text)

    @property
    def clip(self) -> Clip:
        """The model as Diptych has it, of the numbers as they are now; matrices and tables are the
        same memory, projections, scale and bias are copies. Raises ConfigError where parts were
        taken away or replaced."""
        return unwrap(self, self.table)

    @property
    def dtype(self) -> torch.dtype:
        """Of the image tower's weights, as OpenAI's models say it."""
        return self.visual.dtype

    def pixels(self, image: Tensor | Mapping[str, Any]) -> Tensor:
        """Pictures as `clip` takes them."""
        if isinstance(self.visual, OpenClipVisual):
            return self.visual.pixels(image)
        if isinstance(image, Mapping):
            raise ConfigError("this tower takes squares of pixels, and no patches by name")
        return image.to(self.dtype)

    def encode_image(
        self,
        image: Float[Tensor, "batch 3 height width"] | Mapping[str, Any],
        normalize: bool | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of pictures, as the transform made them; of unit length where it is asked for,
        and of CoCa where it isn't refused."""
        return self._scaled(_pooled(self.visual(image)), normalize)

    def encode_text(
        self,
        text: Int[Tensor, "batch length"],
        normalize: bool | None = None,
        text_valid: Tensor | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Vectors of captions, as the tokenizer made them; see `encode_image`. `text_valid`,
        [batch, length]: which tokens aren't padding (None: the ids tell); who doesn't hide padding
        doesn't ask. Raises ConfigError for it where another library reads the texts."""
        if self.text_beside:
            return self._scaled(encode(self, text, self._reading, text_valid)[0], normalize)
        return self._scaled(_pooled(self.text(text, **_mask(self.text, text_valid))), normalize)

    def with_tokens(self, tower: Any, x: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Unit vectors and tokens of `visual` or `text`, whatever its `output_tokens`; one without,
        which somebody put there, gives both."""
        vectors, tokens, _ = self.with_seen(tower, x, **options)
        return vectors, tokens

    def with_seen(self, tower: Any, x: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same, and which of the tokens there are (None: all)."""
        if not isinstance(tower, _GivesTokens):
            pooled, tokens = tower(x, **options)
            return unit(pooled), tokens, None
        before, tower.output_tokens = tower.output_tokens, True
        try:
            found = tower(x, **options)
        finally:
            tower.output_tokens = before
        pooled, tokens, *seen = found.values() if isinstance(found, dict) else found
        return unit(pooled), tokens, seen[0] if seen else None

    @property
    def _reading(self) -> Reading:
        return Reading(self.text_pool_type, self.text_eos_id, 0)

    def text_intermediates(self, text: Tensor, **options: Any) -> dict[str, Any]:
        """What the text tower's blocks give: see `forward_intermediates`."""
        if not self.text_beside:
            return self.text.forward_intermediates(text, **options)
        # As open_clip's CLIP has it, which passes over these.
        options |= {"stop_early": False, "output_fmt": "NLC", "output_extra_tokens": False}
        return intermediates_of_text(self, text, self._reading, **options)

    def _scaled(self, vectors: Tensor, normalize: bool | None) -> Tensor:
        writes = self.text_decoder is not None or self.traits.generative
        asked = writes if normalize is None else normalize
        return unit(vectors) if asked else vectors

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each picture for each text, and transposed: the model's own factor x cosine
        similarity, plus the bias where there is one."""
        logits = self.logits(self.encode_image(image, True), self.encode_text(text, True))
        return logits, logits.T

    def logits(
        self, images: Float[Tensor, "images embed_dim"], texts: Float[Tensor, "texts embed_dim"]
    ) -> Float[Tensor, "images texts"]:
        """exp(scale) * <image, text> + bias, of unit vectors."""
        logits = self.logit_scale.exp() * images @ texts.T
        return logits if self.logit_bias is None else logits + self.logit_bias

    forward_intermediates = intermediates.forward_intermediates

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last groups of layers: the projection, each block,
        what makes the first one's input; with `freeze_bn_stats` frozen batch norms' statistics,
        too."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """The same of the text tower. Raises AssertionError where norms are to be trained and the
        tower is open_clip's own."""
        if not self.text_beside:
            self.text.lock(unlocked_layers, freeze_layer_norm)
            return
        check_norms_frozen(freeze_layer_norm)
        lock(self, unlocked_layers)

    def set_grad_checkpointing(self, enable: bool = True, impl: str = "inline") -> None:
        """Compute blocks again in the backward pass: less memory, more time; `impl`: see
        `stack.check_impl`."""
        self.visual.set_grad_checkpointing(enable, impl)
        text: Any = self.transformer if self.text_beside else self.text
        text.set_grad_checkpointing(enable, impl)
        if self.text_decoder is not None:
            self.text_decoder.set_grad_checkpointing(enable, impl)

    def no_weight_decay(self) -> set[str]:
        """Names of tables without weight decay, beside what has one dimension."""
        found = {"positional_embedding"} if self.text_beside else set[str]()
        for name, part in (("visual", self.visual), ("text", getattr(self, "text", None))):
            if isinstance(part, _OWN | OpenClipTower):
                found |= {f"{name}.{table}" for table in part.no_weight_decay()}
        return found

    def forward(
        self, image: Tensor | Mapping[str, Any] | None = None, text: Tensor | None = None
    ) -> Any:
        """Unit vectors of pictures and of captions (None where none were given), the factor on
        their similarity, and the bias where there is one."""
        found = {
            "image_features": None if image is None else self.encode_image(image, True),
            "text_features": None if text is None else self.encode_text(text, True),
            "logit_scale": self.logit_scale.exp(),
        }
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found if self.output_dict else tuple(found.values())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters by open_clip's names."""
        before = f"{prefix}." if prefix else ""
        for name, parameter in super().named_parameters("", recurse, remove_duplicate):
            ours = name
            for theirs, part in self._parts.items():
                ours = ours.replace(f"{theirs}tower.", part, 1)
            yield before + (name if ours == name else self.table.foreign_names(ours)[0]), parameter


def _mask(text: Any, text_valid: Tensor | None) -> dict[str, Tensor]:
    if text_valid is None:
        return {}
    if not isinstance(text, TextTransformer | ModernTextTransformer | MultimodalDecoder):
        raise ConfigError("this model's text tower tells padding by its id; leave out text_valid")
    return {"text_valid": text_valid}


def _pooled(output: Any) -> Tensor:
    """Of a tower, whatever its `output_tokens`."""
    if isinstance(output, dict):
        return output["pooled"]
    return output[0] if isinstance(output, tuple) else output
