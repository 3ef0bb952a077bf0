"""The names of a UniRepLKNet's weights as its authors give them, in training and in deploy form.

https://github.com/AILab-CVC/UniRepLKNet
"""

from diptych.weights.mapping import Change, Rule, rows

MARK = "stages.0.0.pwconv1.1.weight"
"""A name that every such trunk has, and no other ConvNet."""
_POINTWISE = Change(lambda parts: parts[0].flatten(1), lambda ours: [ours[:, :, None, None]])
"""A 1x1 convolution there, a matrix here."""
_PER_CHANNEL = Change(lambda parts: parts[0].flatten(), lambda ours: [ours[None, None, None]])
"""[1, 1, 1, width] there."""


def rules(prefix: str, norm: str = "norm") -> tuple[Rule, ...]:
    """The tower of a checkpoint whose names begin with `prefix`; `norm` is what the last one is
    called."""
    return (
        *rows(
            "image.stages.0.down.",
            f"{prefix}downsample_layers.0.",
            ("conv_1.*", "0.*"),
            ("norm_1.*", "1.*"),
            ("conv_2.*", "3.*"),
            ("norm_2.*", "4.*"),
        ),
        *rows(
            "image.stages.#.down.",
            f"{prefix}downsample_layers.#.",
            ("conv.*", "0.*"),
            ("norm.*", "1.*"),
        ),
        *rows(
            "image.stages.#.blocks.#.",
            f"{prefix}stages.#.#.",
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
        Rule("image.norm_post.*", f"{prefix}{norm}.*"),
    )
