"""EVA-CLIP: every published name finds its model, whose sizes are the published ones."""

import re
from pathlib import Path

import pytest

from diptych import models, pretrained
from diptych.config import ClipConfig
from diptych.errors import ConfigError, UnknownNameError
from tests import goldens

TITLES = {
    "eva01-clip-b-16": "EVA01-CLIP-B-16",
    "eva01-clip-g-14": "EVA01-CLIP-g-14",
    "eva01-clip-g-14-plus": "EVA01-CLIP-g-14-plus",
    "eva02-clip-b-16": "EVA02-CLIP-B-16",
    "eva02-clip-l-14": "EVA02-CLIP-L-14",
    "eva02-clip-l-14-336": "EVA02-CLIP-L-14-336",
    "eva02-clip-e-14": "EVA02-CLIP-bigE-14",
    "eva02-clip-e-14-plus": "EVA02-CLIP-bigE-14-plus",
    "eva-clip-8b": "EVA-CLIP-8B",
    "eva-clip-8b-448": "EVA-CLIP-8B-plus",
    "eva-clip-18b": "EVA-CLIP-18B",
}
"""Ours, and the configuration's at the head of the authors' repository."""

NAMES = {
    "eva01-clip-b-16": ["EVA01-CLIP-B-16", "EVA-ViT-B-16"],
    "eva01-clip-g-14": [
        *("EVA01-CLIP-g-14", "EVA-ViT-g-14-X", "EVA-ViT-g-14", "EVA_CLIP_g_14", "EVA_CLIP_g_14_X"),
        *(
            "EVA01_CLIP_g_14_psz14_s11B",
            "EVA01_CLIP_g_14_psz14_s11B.pt",
            "eva_clip_psz14",
            "eva_clip_psz14.pt",
        ),
        *("EVA01-g-14", "EVA01-g-14/laion400m_s11b_b41k", "eva_giant_patch14_clip_224"),
        "timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k",
        *("EVA01-CLIP-g-14/eva_clip", "EVA01-CLIP-g-14/eva01_clip"),
    ],
    "eva01-clip-g-14-plus": [
        *("EVA01-CLIP-g-14-plus", "EVA-ViT-g-14-text-H-X", "EVA-ViT-g-14-text-H"),
        *("EVA01_CLIP_g_14_plus_psz14_s11B", "EVA01_CLIP_g_14_plus_psz14_s11B.pt"),
        *(
            "EVA01-g-14-plus",
            "EVA01-g-14-plus/merged2b_s11b_b114k",
            "eva_giant_patch14_plus_clip_224",
        ),
        "timm/eva_giant_patch14_plus_clip_224.merged2b_s11b_b114k",
    ],
    "eva02-clip-b-16": [
        *(
            "EVA02-CLIP-B-16",
            "EVA-ViT-B-16-X",
            "EVA02_CLIP_B_psz16_s8B",
            "EVA02_CLIP_B_psz16_s8B.pt",
        ),
        *("EVA02-B-16", "EVA02-B-16/merged2b_s8b_b131k", "eva02_base_patch16_clip_224"),
        "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        "QuanSun/EVA-CLIP/EVA02_CLIP_B_psz16_s8B.pt",
    ],
    "eva02-clip-l-14": [
        *(
            "EVA02-CLIP-L-14",
            "EVA-ViT-L-14-X",
            "EVA-ViT-L-14",
            "EVA02_CLIP_L_psz14_s4B",
            "EVA02_CLIP_L_psz14_s4B.pt",
        ),
        *("EVA02-L-14", "EVA02-L-14/merged2b_s4b_b131k", "eva02_large_patch14_clip_224"),
        "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k",
    ],
    "eva02-clip-l-14-336": [
        *("EVA02-CLIP-L-14-336", "EVA-ViT-L-14-X-336", "EVA-ViT-L-14-336"),
        *(
            "EVA02_CLIP_L_336_psz14_s6B",
            "EVA02_CLIP_L_336_psz14_s6B.pt",
            "eva02_clip_l_336_psz14_s6b",
        ),
        *(
            "EVA02_CLIP_L_psz14_224to336",
            "EVA02_CLIP_L_psz14_224to336.pt",
            "EVA02-CLIP-L-14-336/eva_clip_224to336",
        ),
        *("EVA02-L-14-336", "EVA02-L-14-336/merged2b_s6b_b61k", "eva02_large_patch14_clip_336"),
        "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
        "hf-hub:timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
    ],
    "eva02-clip-e-14": [
        *("EVA02-CLIP-bigE-14", "EVA-ViT-4b-14-text-H-X", "EVA-ViT-4b-14-text-H", "EVA02-bigE-14"),
        *("EVA02_CLIP_E_psz14_s4B", "EVA02_CLIP_E_psz14_s4B.pt"),
        *("EVA02-E-14", "EVA02-E-14/laion2b_s4b_b115k", "eva02_enormous_patch14_clip_224"),
        "timm/eva02_enormous_patch14_clip_224.laion2b_s4b_b115k",
    ],
    "eva02-clip-e-14-plus": [
        *(
            "EVA02-CLIP-bigE-14-plus",
            "EVA-ViT-4b-14-text-bigG-X",
            "EVA-ViT-4b-14-text-bigG",
            "EVA02-bigE-14-plus",
        ),
        *("EVA02_CLIP_E_psz14_plus_s9B", "EVA02_CLIP_E_psz14_plus_s9B.pt"),
        *(
            "EVA02-E-14-plus",
            "EVA02-E-14-plus/laion2b_s9b_b144k",
            "eva02_enormous_patch14_plus_clip_224",
        ),
        "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k",
    ],
    "eva-clip-8b": [
        *("EVA-CLIP-8B", "EVA_CLIP_8B_psz14_s9B", "EVA_CLIP_8B_psz14_s9B.pt", "BAAI/EVA-CLIP-8B"),
        *("hf-hub:BAAI/EVA-CLIP-8B", "EVA-CLIP-8B/eva_clip"),
    ],
    "eva-clip-8b-448": [
        *("EVA-CLIP-8B-448", "EVA-CLIP-8B-plus", "BAAI/EVA-CLIP-8B-448"),
        *("EVA_CLIP_8B_psz14_plus_s0.6B", "EVA_CLIP_8B_psz14_plus_s0.6B.pt"),
    ],
    "eva-clip-18b": [
        *("EVA-CLIP-18B", "BAAI/EVA-CLIP-18B", "EVA_CLIP_18B_psz14_s6B"),
        *("EVA_CLIP_18B_psz14_s6B.fp16", "EVA_CLIP_18B_psz14_s6B.fp16.pt"),
    ],
    "eva01-g-psz14": ["EVA01_g_psz14", "EVA01_g_psz14.pt"],
    "eva02-b-psz14to16": ["EVA02_B_psz14to16", "EVA02_B_psz14to16.pt"],
    "eva02-l-psz14": ["EVA02_L_psz14", "EVA02_L_psz14.pt"],
    "eva02-e-psz14": ["EVA02_E_psz14", "EVA02_E_psz14.pt"],
    "eva-8b-psz14": ["EVA_8B_psz14", "EVA_8B_psz14.bin"],
    "eva-18b-psz14": ["EVA_18B_psz14", "EVA_18B_psz14.fp16", "EVA_18B_psz14.fp16.bin"],
}
"""Every name that a README, a registry, the hub, open_clip or timm uses."""


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for model in NAMES for name in NAMES[model]]
)
def test_every_published_name_finds_its_model(name, model):
    assert pretrained.entry(name).name == model
    assert pretrained.entry(name.upper()).name == model


def test_every_model_was_named():
    assert set(NAMES) == set(pretrained.names("eva*"))


@pytest.mark.parametrize(
    ("name", "place", "layout"),
    [
        ("EVA02-CLIP-L-14-336", "QuanSun/EVA-CLIP/EVA02_CLIP_L_336_psz14_s6B.pt", "eva"),
        ("EVA02_CLIP_L_psz14_224to336", "QuanSun/EVA-CLIP/EVA02_CLIP_L_psz14_224to336.pt", "eva"),
        ("eva_clip_psz14.pt", "BAAI/EVA/eva_clip_psz14.pt", "eva"),
        ("EVA02-CLIP-L-14-336/eva_clip", "QuanSun/EVA-CLIP/EVA02_CLIP_L_336_psz14_s6B.pt", "eva"),
        (
            "EVA02-L-14-336/merged2b_s6b_b61k",
            "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k/open_clip_model.safetensors",
            "open-clip",
        ),
        ("EVA-CLIP-8B", "BAAI/EVA-CLIP-8B/EVA_CLIP_8B_psz14_s9B.pt", "eva"),
        ("BAAI/EVA-CLIP-8B", "BAAI/EVA-CLIP-8B", "transformers"),
        ("EVA_8B_psz14.bin", "BAAI/EVA-CLIP-8B/EVA_8B_psz14.bin", "eva-image"),
    ],
)
def test_a_name_picks_its_file(name, place, layout):
    found = pretrained.weights(name)
    assert (found.place, found.format) == (place, layout)


def test_what_was_never_released_has_no_weights():
    assert pretrained.weights("EVA01-CLIP-B-16") is None


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("EVA02-CLIP-L-14-366", "eva02-clip-l-14-336"),
        ("EVA02_CLIP_L_336_psz14_s9B", "eva02-clip-l-14-336"),
        ("BAAI/EVA-CLIP-8B-44", "eva-clip-8b-448"),
        ("timm/eva02_base_patch16_clip_224.merged2b", "eva02-clip-b-16"),
        ("EVA_VIT_4b_14_text_bigG_Y", "eva02-clip-e-14-plus"),
        ("eva01_g_psz16", "eva01-g-psz14"),
    ],
)
def test_near_misses_are_found_in_every_spelling(wrong, meant):
    with pytest.raises(UnknownNameError) as error:
        pretrained.get(wrong)
    assert error.value.near[0] == meant
    assert len(error.value.near) == len(set(error.value.near)) <= 3


def test_a_repository_of_many_models_names_its_files():
    with pytest.raises(
        ConfigError, match=r"repository of many files; name one: EVA01_CLIP_g_14_psz14_s11B\.pt, "
    ) as e:
        pretrained.entry("QuanSun/EVA-CLIP")
    assert str(e.value).count(".pt") == 12


def test_an_image_tower_alone_has_no_model_configuration():
    with pytest.raises(
        ConfigError,
        match=r"eva02-l-psz14 is an image tower without a text tower; load_image_tower\(",
    ):
        pretrained.get("EVA02_L_psz14")
    assert pretrained.tower("EVA02_CLIP_L_psz14_s4B") == pretrained.get("eva02-clip-l-14").image


RATIOS = {768: 2.6667, 1024: 2.6667, 1408: 4.3637, 1792: 8.571428571428571, 4096: 5, 5120: 5}
"""Width -> `mlp_ratio` as published, but of EVA01-CLIP-B-16."""


def test_widths_of_mlps_are_the_published_ratios():
    towers = {name: pretrained.tower(name) for name in NAMES}
    assert towers.pop("eva01-clip-b-16").mlp_width == 4 * 768
    for name, tower in towers.items():
        assert tower.mlp_width == int(tower.width * RATIOS[tower.width]), name


def test_the_scale_is_a_hundred_where_it_was_fixed():
    fixed = [
        name
        for name in TITLES
        if pretrained.get(name).logit_scale == pytest.approx(4.6052, abs=1e-4)
    ]
    assert fixed == ["eva-clip-8b", "eva-clip-8b-448", "eva-clip-18b"]


@pytest.mark.parametrize("name", TITLES)
def test_parameter_counts_are_the_published_ones(name):
    golden = goldens.read(goldens.FOLDER / f"eva/{TITLES[name]}.keys.json")
    model = models.build(pretrained.get(name), device="meta")
    counts = [
        sum(p.numel() for p in part.parameters()) for part in (model, model.image, model.text)
    ]
    assert counts == [golden["params"], golden["vision_params"], golden["text_params"]]


BILLIONS = {
    "eva01-g-psz14": 1.0,
    "eva02-b-psz14to16": 0.086,
    "eva02-l-psz14": 0.304,
    "eva02-e-psz14": 4.4,
    "eva-8b-psz14": 7.5,
    "eva-18b-psz14": 17.5,
}


@pytest.mark.parametrize("name", BILLIONS)
def test_image_towers_are_as_large_as_their_cards_say(name):
    assert _parameters(name) / 1e9 == pytest.approx(BILLIONS[name], rel=0.02)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("eva02-clip-b-16", 35.1, 6.0),
        ("eva01-clip-g-14", 534.1, 13.3),
        ("eva02-clip-l-14", None, 175.3),
        ("eva02-clip-l-14-336", None, 395.2),
        ("eva01-clip-g-14-plus", None, 581.2),
        ("eva02-clip-e-14", None, 2311.4),
        ("eva02-clip-e-14-plus", None, 2362.2),
    ],
)
def test_gflops_are_the_published_ones(name, image, text):
    """Of the image and text towers, or of both."""
    model = models.build(pretrained.get(name), device="meta")
    ours = (
        (model.image.flops(), model.text.flops())
        if image
        else (None, model.image.flops() + model.text.flops())
    )
    for mine, published in zip(ours, (image, text)):
        assert published is None or mine / 1e9 == pytest.approx(published, rel=0.01)


def test_image_towers_are_told_from_models():
    assert [
        name for name in NAMES if isinstance(pretrained.entry(name).config, ClipConfig)
    ] == list(TITLES)


def test_the_guide_names_every_model():
    """Every row's names are of that row's model, with its parameters."""
    guide = (Path(__file__).parents[3] / "docs/models.md").read_text()
    rows = [line.split("|")[1:-1] for line in guide.splitlines() if re.match(r"\| `eva", line)]
    assert [row[0].strip(" `") for row in rows] == list(NAMES)
    for row in rows:
        names = re.findall(r"`([^`]+)`", "|".join(row))
        assert {pretrained.entry(name).name for name in names} == {names[0]}
        [count, unit] = re.search(r"([\d.]+) ([MB]) ", "|".join(row)).groups()
        assert _parameters(names[0]) / {"M": 1e6, "B": 1e9}[unit] == pytest.approx(
            float(count), abs=0.005
        )
        if len(row) == 6:
            assert int(row[1]) == pretrained.tower(names[0]).image_size
    of_others = re.findall(r"^\| `EVA.*", guide, re.MULTILINE)
    assert len(of_others) == 7
    for row in of_others:
        assert len({pretrained.entry(name).name for name in re.findall(r"`([^`]+)`", row)}) == 1


def _parameters(name: str) -> int:
    config = pretrained.entry(name).config
    whole = isinstance(config, ClipConfig)
    built = (
        models.build(config, device="meta")
        if whole
        else models.build_tower(config, None, device="meta")
    )
    return sum(p.numel() for p in built.parameters())
