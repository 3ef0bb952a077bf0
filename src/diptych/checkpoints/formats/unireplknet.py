"""UniRepLKNet's files: the trunk as its authors publish it, and whole CLIP models around it in open_clip's layout.

https://github.com/AILab-CVC/UniRepLKNet
"""

from diptych.checkpoints.rename import Change, rows

_POINTWISE = Change(lambda parts: parts[0].flatten(1), lambda ours: [ours[:, :, None, None]])
"""A 1x1 convolution there, a matrix here."""
_PER_CHANNEL = Change(lambda parts: parts[0].flatten(), lambda ours: [ours[None, None, None]])
"""[1, 1, 1, width] there."""

TRUNK = (
    *rows(
        "stages.0.down.",
        "downsample_layers.0.",
        ("conv_1.*", "0.*"),
        ("norm_1.*", "1.*"),
        ("conv_2.*", "3.*"),
        ("norm_2.*", "4.*"),
    ),
    *rows("stages.#.down.", "downsample_layers.#.", ("conv.*", "0.*"), ("norm.*", "1.*")),
    *rows(
        "stages.#.blocks.#.",
        "stages.#.#.",
        ("scale", "gamma"),
        ("mix.weight", "dwconv.weight"),
        ("mix.bias", "dwconv.bias"),
        ("mix.dense.*", "dwconv.lk_origin.*"),
        ("mix.dense_norm.*", "dwconv.origin_bn.*"),
        ("mix.branches.#_#.conv.weight", "dwconv.dil_conv_k#_#.weight"),
        ("mix.branches.#_#.norm.*", "dwconv.dil_bn_k#_#.*"),
        ("mix_norm.*", "norm.*"),
        ("excite.down.weight", "se.down.weight", _POINTWISE),
        ("excite.down.bias", "se.down.bias"),
        ("excite.up.weight", "se.up.weight", _POINTWISE),
        ("excite.up.bias", "se.up.bias"),
        ("up.*", "pwconv1.1.*"),
        ("response_norm.gain", "act.1.gamma", _PER_CHANNEL),
        ("response_norm.bias", "act.1.beta", _PER_CHANNEL),
        ("down.*", "pwconv2.0.*"),
        ("down_norm.*", "pwconv2.2.*"),
    ),
    *rows("norm_post.", "norm.", ("*", "*")),
)
"""The tower's names and the published ones, in both forms."""
