"""UniRepLKNet: names, and sizes that are counted where the card of its CLIP model has another
model's."""

from dataclasses import replace

import pytest

from diptych import models, pretrained
from diptych.errors import ConfigError
from diptych.families.unireplknet import UniRepLKNetConfig

CLIP = "clip-unireplknet-l"
NAMES = {
    CLIP: [
        *(
            "CLIP-UniRepLKNet-L",
            "CLIP-UniRepLKNet_large-laion5B-s11B-b75K",
            "UniRepLKNet_large.laion5b_s11b_b75k",
        ),
        *(
            "Yiyuan/CLIP-UniRepLKNet-L-laion5B-s10B-b75k",
            "hf-hub:Yiyuan/CLIP-UniRepLKNet-L-laion5B-s10B-b75k",
        ),
        *("UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72.pt", "UniRepLKNet-L-b75k_s10B_CLIP-in1k_75.72"),
    ],
    "clip-unireplknet-l-320": ["CLIP-UniRepLKNet-L-320"],
    "unireplknet-l": ["unireplknet_l", "UniRepLKNet-L", "unireplknet_l_in22k_pretrain.pth"],
    "unireplknet-xl-384": ["unireplknet_xl_in22k_to_in1k_384_acc87.96.pth"],
    "unireplknet-a": ["unireplknet_a", "unireplknet_a_in1k_224_acc77.03"],
}


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, each) for name, all in NAMES.items() for each in all]
)
def test_spellings(name, spelling):
    assert pretrained.entry(spelling).name == name


def test_nine_towers_and_four_larger_ones():
    assert [name.removeprefix("unireplknet-") for name in pretrained.names("unireplknet-*")] == [
        *("a", "f", "p", "n", "t", "s", "b", "l", "xl"),
        *("s-384", "b-384", "l-384", "xl-384"),
    ]
    assert all(
        isinstance(pretrained.tower(name), UniRepLKNetConfig)
        for name in pretrained.names("unireplknet-*")
    )
    with pytest.raises(ConfigError, match="image tower without a text tower"):
        pretrained.get("unireplknet-l")


def test_the_cards_numbers_are_not_repeated():
    """The reference's table, which was counted: trunk without classifier, projection, text tower
    and scale."""
    config = pretrained.get(CLIP)
    model = models.build(config, device="meta")
    deployed = models.build(
        replace(config, image=replace(config.image, deploy=True)), device="meta"
    )
    assert sum(p.numel() for p in model.parameters()) == 574_144_561
    assert sum(p.numel() for p in deployed.parameters()) == 572_523_121
    projection = 2 * 1536 * 1024
    assert round((deployed.image.flops() - projection) / 2e9, 2) == 35.88
    assert round(model.text.flops() / 2e9, 2) == 23.55
    assert "another model" in pretrained.entry(CLIP).note


def test_claims_differ_by_who_made_them():
    claims = {claim.source.split(",")[0]: claim.value for claim in pretrained.weights(CLIP).claims}
    assert claims == {"the weights' card": 75.7, "arXiv:2410.08049": 76.6}


def test_the_larger_picture_is_all_that_differs():
    small, large = pretrained.get(CLIP), pretrained.get(f"{CLIP}-320")
    assert replace(small, image=replace(small.image, image_size=320)) == large
    assert pretrained.weights(f"{CLIP}-320").file == pretrained.weights(CLIP).file
