"""open_clip's and eva_clip's spellings over this engine: their snippets run after changing the
import line.

    from diptych.compat import create_model_and_transforms, get_tokenizer

`diptych.compat.clip` has those of OpenAI's and EVA-01's `clip` package,
`diptych.compat.transformers` the classes of exported EVA-CLIP folders. What differs, and why,
stands in docs/compat.md.
"""

from diptych.compat.clip import build_eva_model_and_transforms
from diptych.compat.coca_model import CoCa
from diptych.compat.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from diptych.compat.factory import (
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
)
from diptych.compat.loading.checkpoint import load_checkpoint
from diptych.compat.loss import ClipLoss, CoCaLoss, DistillClipLoss, SigLipLoss
from diptych.compat.losses.choice import create_loss
from diptych.compat.mammut_model import MaMMUT
from diptych.compat.model import (
    CLIP,
    CLIPTextCfg,
    CLIPVisionCfg,
    CustomTextCLIP,
    OpenClipModel,
    convert_weights_to_fp16,
    convert_weights_to_lp,
    get_cast_dtype,
    get_input_dtype,
    get_model_preprocess_cfg,
    get_model_tokenize_cfg,
    resize_pos_embed,
    resize_text_pos_embed,
    set_model_preprocess_cfg,
    trace_model,
)
from diptych.compat.naflex_genlip_model import GenLip, NaFlexGenLip
from diptych.compat.openai import list_openai_models, load_openai_model
from diptych.compat.pretrained import (
    add_model_config,
    download_pretrained,
    download_pretrained_from_url,
    get_model_config,
    get_pretrained_cfg,
    get_pretrained_url,
    is_pretrained_cfg,
    list_models,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)
from diptych.compat.push_to_hf_hub import push_pretrained_to_hf_hub, push_to_hf_hub
from diptych.compat.task import (
    CLIPTask,
    CoCaTask,
    DistillCLIPTask,
    GenLipTask,
    SigLIPTask,
    create_task,
    get_model_from_task,
)
from diptych.compat.tokenizer import (
    HFTokenizer,
    SigLipTokenizer,
    SimpleTokenizer,
    canonicalize_text,
    decode,
    get_tokenizer,
    tokenize,
)
from diptych.compat.transform import (
    AugmentationCfg,
    PreprocessCfg,
    image_transform,
    image_transform_v2,
)
from diptych.compat.transformer import ModernTextTransformer
from diptych.compat.version import __version__
from diptych.compat.zero_shot_classifier import (
    build_zero_shot_classifier,
    build_zero_shot_classifier_legacy,
)
from diptych.compat.zero_shot_metadata import (
    IMAGENET_CLASSNAMES,
    OPENAI_IMAGENET_TEMPLATES,
    SIMPLE_IMAGENET_TEMPLATES,
)

__all__ = [
    "AugmentationCfg",
    "CLIP",
    "CLIPTask",
    "CLIPTextCfg",
    "CLIPVisionCfg",
    "ClipLoss",
    "CoCa",
    "CoCaLoss",
    "CoCaTask",
    "CustomTextCLIP",
    "DistillCLIPTask",
    "DistillClipLoss",
    "GenLip",
    "GenLipTask",
    "HFTokenizer",
    "IMAGENET_CLASSNAMES",
    "MaMMUT",
    "ModernTextTransformer",
    "NaFlexGenLip",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "OPENAI_IMAGENET_TEMPLATES",
    "OpenClipModel",
    "PreprocessCfg",
    "SIMPLE_IMAGENET_TEMPLATES",
    "SigLIPTask",
    "SigLipLoss",
    "SigLipTokenizer",
    "SimpleTokenizer",
    "__version__",
    "add_model_config",
    "build_eva_model_and_transforms",
    "build_zero_shot_classifier",
    "build_zero_shot_classifier_legacy",
    "canonicalize_text",
    "convert_weights_to_fp16",
    "convert_weights_to_lp",
    "create_loss",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "create_task",
    "decode",
    "download_pretrained",
    "download_pretrained_from_url",
    "get_cast_dtype",
    "get_input_dtype",
    "get_model_config",
    "get_model_from_task",
    "get_model_preprocess_cfg",
    "get_model_tokenize_cfg",
    "get_pretrained_cfg",
    "get_pretrained_url",
    "get_tokenizer",
    "image_transform",
    "image_transform_v2",
    "is_pretrained_cfg",
    "list_models",
    "list_openai_models",
    "list_pretrained",
    "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model",
    "load_checkpoint",
    "load_openai_model",
    "push_pretrained_to_hf_hub",
    "push_to_hf_hub",
    "resize_pos_embed",
    "resize_text_pos_embed",
    "set_model_preprocess_cfg",
    "tokenize",
    "trace_model",
]
