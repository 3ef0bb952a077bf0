"""The same small models in open_clip and transformers, with weights in which nothing is zero or
one."""

import torch
from torch import Tensor, nn

from diptych.config import ClipConfig
from diptych.families.clip import ResNetConfig, TextConfig, VitConfig

TEXT = TextConfig(context_length=12, vocab_size=40, width=32, layers=3, heads=2, mlp_width=64)
VIT = VitConfig(image_size=32, patch_size=8, width=48, layers=3, heads=3, mlp_width=96)
RESNET = ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=16, heads=4)


def captions(rows: int = 4, length: int = 12) -> Tensor:
    """Ids with one end of text (39) each, at different places, and zeros behind it."""
    ids = torch.randint(1, 38, (rows, length))
    for row, end in zip(ids, range(2, 2 + rows)):
        row[end], row[end + 1 :] = 39, 0
    return ids


def shake(module: nn.Module) -> None:
    """Move every parameter and every running statistic away from its initial value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_((0.1 if parameter.ndim == 1 else 0.02) * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand_like(buffer))


def open_clip_model(config: ClipConfig) -> nn.Module:
    """open_clip's model of our configuration, on the current default device."""
    from open_clip.model import CLIP

    image, text = config.image, config.text
    vision = {"layers": image.layers, "width": image.width, "image_size": image.image_size}
    if isinstance(image, ResNetConfig):  # the pool's heads are derived from head_width
        vision |= {"layers": list(image.layers), "head_width": image.width * 32 // image.heads}
    else:
        vision |= {"patch_size": image.patch_size, "mlp_ratio": image.mlp_width / image.width}
        vision |= {"head_width": image.width // image.heads}
    words = {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        "width": text.width,
    }
    words |= {"heads": text.heads, "layers": text.layers, "mlp_ratio": text.mlp_width / text.width}
    quick = text.activation == "quick_gelu"
    return CLIP(config.embed_dim, vision_cfg=vision, text_cfg=words, quick_gelu=quick).eval()


def transformers_model(config: ClipConfig) -> nn.Module:
    """transformers' model of our configuration, on the current default device."""
    from transformers import CLIPConfig, CLIPModel

    towers = [
        {
            "hidden_size": tower.width,
            "intermediate_size": tower.mlp_width,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
            "hidden_act": tower.activation,
        }
        for tower in (config.image, config.text)
    ]
    vision = towers[0] | {
        "image_size": config.image.image_size,
        "patch_size": config.image.patch_size,
    }
    last = config.text.vocab_size - 1
    text = towers[1] | {
        "vocab_size": config.text.vocab_size,
        "max_position_embeddings": config.text.context_length,
    }
    text |= {"eos_token_id": last, "bos_token_id": last - 1, "pad_token_id": 0}
    written = CLIPConfig(vision_config=vision, text_config=text, projection_dim=config.embed_dim)
    return CLIPModel(written).eval()
