"""A model of ours, as the parts of which open_clip's is made."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

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
    genlip_of,
    modern_of,
    resnet_of,
    text_of,
    timm_of,
    vision_of,
)
from diptych.compat.faces.state import rename_loaded, rename_saved
from diptych.compat.faces.towers import OpenClipText, OpenClipVisual
from diptych.compat.faces.unwrapping import again, reshaped, unwrap
from diptych.compat.hf_model import HFTextEncoder
from diptych.compat.model_traits import CLIP_TRAITS, InputMode
from diptych.compat.modified_resnet import ModifiedResNet
from diptych.compat.parts.stack import Transformer
from diptych.compat.parts.text import TextTransformer
from diptych.compat.parts.text_parts import PARTS
from diptych.compat.parts.vision import VisionTransformer
from diptych.models import Clip, Tower
from diptych.weights.mapping import Table

M = TypeVar("M", bound="AssembledModel")
_PARTS = {VISUAL: "image.", TEXT: "text.", DECODER: "decoder."}


@runtime_checkable
class SaysPadding(Protocol):
    """A configuration of texts that says how long loaders make them."""

    variable_text: bool


class AssembledModel(Renamed):
    """The parts of `OpenClipModel`, where open_clip has them and by its names; `clip` puts them
    together again."""

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
        variable = isinstance(config.text, SaysPadding) and config.text.variable_text
        self.traits = replace(type(self).traits, image_input=pictures, variable_text=variable)
        self.output_dict = output_dict
        """Whether the forward pass gives a dictionary in place of a tuple."""
        self._parts = dict(_PARTS)
        self._add_towers(clip)
        self._say_preprocessing()
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
        AssembledModel.__init__(model, clip, output_dict, custom_text)
        return model

    def reshape_scale(self, *shape: int) -> None:
        """Give scale and bias this shape of one number."""
        self.logit_scale = reshaped(self.logit_scale, *shape)
        if self.logit_bias is not None:
            self.logit_bias = reshaped(self.logit_bias, *shape)

    def _add_towers(self, clip: Clip) -> None:
        """In open_clip's order: an optimiser's state goes by the parameters' numbers."""
        self._add_image(clip.image)
        self._add_text(clip.text)

    def _add_image(self, tower: Tower[Any]) -> None:
        """`visual`."""
        dim, table = self.config.embed_dim, part_of(self.table, "image.", VISUAL)
        native = vision_of(tower, dim, table, self.vision_kind)
        resnet = resnet_of(tower, dim, table, self.resnet_kind)
        timm = timm_of(tower, dim, table)
        genlip = genlip_of(tower, dim, table)
        self.visual = native or resnet or timm or genlip or OpenClipVisual(tower, self.config)

    def image_again(self) -> Tower[Any]:
        """The image tower as Diptych has it: see `clip`."""
        table = part_of(self.table, "image.", VISUAL)
        return again(self, self.config.image, getattr(self, "visual", None), table)

    def _say_preprocessing(self) -> None:
        """As open_clip's factories leave it at the image tower."""
        said = self.preprocess_cfg()
        self.visual.preprocess_cfg = said
        self.visual.image_mean, self.visual.image_std = said["mean"], said["std"]
        if self.config.image.native:
            self.visual.image_seq_len = self.config.preprocess.patches

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
        for name in sorted(PARTS, key=lambda name: name != "transformer"):  # which comes first here
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
