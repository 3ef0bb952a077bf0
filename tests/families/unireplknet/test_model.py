"""The large-kernel tower: recorded outputs of the original, its numbers of weights and operations,
and its training."""

import copy
from dataclasses import replace

import pytest
import torch

from diptych.errors import ConfigError
from diptych.families.unireplknet import UniRepLKNetConfig
from diptych.families.unireplknet.deploy import deploy
from diptych.models import build_tower
from tests import goldens
from tests.families.unireplknet import golden_rules
from tests.models.peers import shake

TINY = UniRepLKNetConfig(
    image_size=32,
    depths=(1, 2, 1, 1),
    widths=(16, 24, 32, 48),
    kernel_sizes=((3,), (7, 0), (13,), (5,)),
    layer_scale=0.1,
)
FEATURES = {"tiny": 5e-6}
"""Tolerances by file; the strong nets, whose signal grows a hundredfold inside, are held to 3e-5 by
the reference."""
# fmt: off
VARIANTS = {
    # depths, widths: weights to train (with the classifier), to deploy, without it; giga
    # multiply-adds to deploy, train
    "a":  ((2, 2, 6, 2),  40,    4_649_060,   4_437_300,   4_116_300,  0.640,  0.675),
    "f":  ((2, 2, 6, 2),  48,    6_489_328,   6_235_216,   5_850_216,  0.905,  0.947),
    "p":  ((2, 2, 6, 2),  64,   11_080_520,  10_741_704,  10_228_704,  1.573,  1.629),
    "n":  ((2, 2, 8, 2),  80,   18_818_880,  18_318_560,  17_677_560,  2.767,  2.849),
    "t":  ((3, 3, 18, 3), 80,   31_693_420,  31_037_980,  30_396_980,  4.899,  5.004),
    "s":  ((3, 3, 27, 3), 96,   56_456_704,  55_645_984,  54_876_984,  9.094,  9.219),
    "b":  ((3, 3, 27, 3), 128,  99_089_416,  98_008_456,  96_983_456, 16.057, 16.224),
    "l":  ((3, 3, 27, 3), 192, 220_076_056, 218_454_616, 216_917_616, 35.882, 36.132),
    "xl": ((3, 3, 27, 3), 256, 388_690_984, 386_529_064, 384_480_064, 63.570, 63.904),
}
# fmt: on
both = pytest.mark.parametrize("form", ["train", "deploy"])


def variant(name):
    depths, width, *_ = VARIANTS[name]
    return UniRepLKNetConfig(
        depths=depths, widths=(width, 2 * width, 4 * width, 8 * width), projection_bias=True
    )


def make(config=TINY, embed_dim=6):
    torch.manual_seed(0)
    tower = build_tower(config, embed_dim)
    tower.init()
    shake(tower)
    return tower


def golden_tower(golden, form):
    state, config = golden_rules.to_ours(golden_rules.weights(golden)), golden_rules.config(golden)
    if form == "deploy":
        state, config = deploy(state, config)
    tower = build_tower(config, golden["config"]["num_classes"])
    tower.load_state_dict(dict(state))
    return tower.eval()


def probes(tower, pixels):
    """What the goldens recorded: the map behind every downsampler, block and stage, and the vectors
    at the end."""
    maps = {}
    for i, stage in enumerate(tower.stages):
        parts = {f"downsample_layers.{i}": stage.down, f"stages.{i}": stage}
        parts |= {f"stages.{i}.{j}": block for j, block in enumerate(stage.blocks)}
        for name, part in parts.items():
            part.register_forward_hook(lambda _, __, y, name=name: maps.__setitem__(name, y))
    with torch.no_grad():
        tokens, _, pooled = tower(pixels)
        mean = tokens.mean(1)
        return maps, mean, tower.norm_post(mean), pooled


@both
@pytest.mark.parametrize("path", golden_rules.FILES, ids=lambda path: path.stem)
def test_outputs_of_the_original(path, form):
    golden = goldens.read(path)
    tower, tolerance = golden_tower(golden, form), FEATURES.get(path.stem, 3e-5)
    for name, pixels in golden_rules.inputs(golden).items():
        expected = golden[form][name]
        maps, mean, feature, vector = probes(tower, pixels)
        assert expected["trace"].keys() == maps.keys()
        for part, recorded in expected["trace"].items():
            x, near = maps[part], tolerance * max(1, recorded["abs_max"])
            assert list(x.shape) == recorded["shape"]
            found = torch.stack([x.double().mean(), x.double().std(correction=0), x.abs().max()])
            wanted = torch.tensor([recorded["mean"], recorded["std"], recorded["abs_max"]])
            torch.testing.assert_close(
                found, wanted.double(), rtol=0, atol=near, msg=f"{name}, {part}"
            )
            first = torch.tensor(recorded["first16"])
            torch.testing.assert_close(
                x.flatten()[:16], first, rtol=0, atol=near, msg=f"{name}, {part}"
            )
        largest = torch.tensor(expected["pooled"]).abs().max()
        for what, x, atol in (
            ("pooled", mean, tolerance * max(1, largest)),
            ("final_feature", feature, tolerance),
            ("head_output", vector, tolerance),
        ):
            torch.testing.assert_close(
                x, torch.tensor(expected[what]).view_as(x), rtol=0, atol=atol, msg=what
            )


@both
@pytest.mark.parametrize("path", golden_rules.KEYS, ids=lambda path: path.name.split(".")[0])
def test_names_and_shapes_of_every_variant(path, form):
    config = replace(variant(path.name.split(".")[0].split("_")[1]), deploy=form == "deploy")
    state = build_tower(config, 1000, device="meta").state_dict()
    found = {name: list(tensor.shape) for name, tensor in golden_rules.to_published(state).items()}
    assert found == goldens.read(path)[form]


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_and_operations_of_every_variant(name):
    config, (_, _, train, deployed, headless, deploy_gmac, train_gmac) = (
        variant(name),
        VARIANTS[name],
    )
    towers = [
        build_tower(replace(config, deploy=d), e, "meta")
        for d, e in ((False, 1000), (True, 1000), (True, None))
    ]
    assert [sum(p.numel() for p in tower.parameters()) for tower in towers] == [
        train,
        deployed,
        headless,
    ]
    assert [round(tower.flops() / 2e9, 3) for tower in towers[:2]] == [train_gmac, deploy_gmac]


@pytest.mark.parametrize(
    ("size", "gmac"), [(192, 26.365), (256, 46.862), (320, 73.214), (384, 105.422)]
)
def test_operations_at_other_sizes(size, gmac):
    tower = build_tower(replace(variant("l"), deploy=True, image_size=size), 1000, "meta")
    assert round(tower.flops() / 2e9, 3) == gmac


def test_layers_are_those_of_the_published_fine_tuning():
    tower = build_tower(variant("l"), None, "meta")
    assert tower.layers == 13
    third = [tower.layer_of(f"stages.2.blocks.{j}.up.weight") for j in range(27)]
    assert third == [3 + j // 3 for j in range(27)]
    for name, layer in (
        ("stages.0.down.conv_1.weight", 0),
        ("stages.0.blocks.2.scale", 1),
        ("stages.1.down.conv.bias", 2),
        ("stages.1.blocks.0.mix.branches.5_1.conv.weight", 2),
        ("stages.2.down.norm.weight", 3),
        ("stages.3.down.conv.weight", 12),
        ("stages.3.blocks.2.down.weight", 12),
        ("norm_post.weight", 13),
    ):
        assert tower.layer_of(name) == layer
    with pytest.raises(KeyError):
        tower.layer_of("stages.9.down.conv.weight")


def test_an_image_tower_alone_gives_the_normed_mean():
    tower = make(embed_dim=None).eval()
    tokens, _, pooled = tower(torch.randn(2, 3, 40, 72))
    assert tokens.shape == (2, 2 * 3, 48)
    assert torch.equal(pooled, tower.norm_post(tokens.mean(1)))


def test_a_training_step_changes_every_branch():
    """Behind a batch norm a constant is lost, so that some biases get no gradient: these are
    named."""
    tower = make().train()
    before = copy.deepcopy(tower.state_dict())
    optimizer = torch.optim.SGD(tower.parameters(), lr=1.0)
    torch.manual_seed(1)
    (tower(torch.randn(8, 3, 64, 64)).pooled * torch.randn(8, 6)).sum().backward()
    lost = ("dense_norm.bias", "response_norm.bias")
    for name, parameter in tower.named_parameters():
        if not (name.endswith(lost) or (".branches." in name and name.endswith(".norm.bias"))):
            assert parameter.grad.abs().max() > 1e-6, name
    optimizer.step()
    after = tower.state_dict()
    assert all(
        not torch.equal(before[name], after[name])
        for name in before
        if name.endswith("running_mean")
    )


def test_stochastic_depth_grows_with_depth():
    plain, dropped = make(), make()
    dropped.set_stochastic_depth(0.4)
    assert [block.drop.rate for block in dropped.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(plain.eval()(x).pooled, dropped.eval()(x).pooled)
    assert not torch.allclose(plain.train()(x).pooled, dropped.train()(x).pooled)


def test_layer_scale_may_be_absent():
    tower = make(replace(TINY, layer_scale=None))
    assert not any(name.endswith("scale") for name in tower.state_dict())
    with torch.no_grad():
        assert tower.eval()(torch.randn(1, 3, 32, 32)).pooled.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """The response norm's sums are in float32: 3000 would be 9 million squared, beyond float16."""
    tower = make().eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = tower(x).pooled
        tower.to(dtype)
        found = tower(x.to(dtype)).pooled
        norm = tower.blocks[0].response_norm
        assert (
            norm(torch.full((1, 32, 32, norm.gain.numel()), 3000.0, dtype=dtype)).isfinite().all()
        )
    assert found.dtype == dtype
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


@pytest.mark.parametrize("deploy", [False, True])
def test_a_step_under_autocast(deploy):
    tower = make(replace(TINY, deploy=deploy)).train()
    tower.set_checkpointing()
    with torch.autocast("cpu", torch.bfloat16):
        loss = tower(torch.randn(4, 3, 64, 64)).pooled.float().square().sum()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in tower.parameters())


def test_a_dead_channel_has_a_finite_gradient():
    norm = make().blocks[0].response_norm
    x = torch.randn(2, 4, 4, norm.gain.numel())
    x[..., 0] = 0
    x.requires_grad_()
    norm(x).square().sum().backward()
    assert x.grad.isfinite().all()


def test_memory_layout_of_the_pixels_does_not_matter():
    tower, x, kept = make().eval(), torch.randn(2, 3, 33, 50), []
    with torch.no_grad():
        wanted = tower(x).pooled
        for block in tower.blocks:
            block.register_forward_hook(
                lambda _, __, y: kept.append(y.is_contiguous(memory_format=torch.channels_last))
            )
        assert torch.equal(tower(x.contiguous(memory_format=torch.channels_last)).pooled, wanted)
    assert kept == [True] * len(tower.blocks)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (1, 1, 1, 1)}, "kernel_sizes must be given"),
        ({"depths": (1, 1, 1, 1), "kernel_sizes": ((3,), (3,), (3,), (3, 3))}, "don't fit depths"),
        ({"depths": (1, 1, 1, 1), "kernel_sizes": ((3,), (8,), (3,), (3,))}, "kernel size 8"),
        ({"widths": (7, 8, 8, 8)}, "must be at least 4, the first of them even"),
    ],
)
def test_what_can_not_be_built_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        UniRepLKNetConfig(**fields)
