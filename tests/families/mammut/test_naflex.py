"""MaMMUT over pictures of their own aspect: captions read the patches that a picture has, as timm's
trunk leaves them; open_clip's names and options, both ways."""

from dataclasses import replace

import pytest
import torch

from diptych import models, pretrained
from diptych.batch import Batch, TextLengths
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig, CocaObjectiveConfig, PreprocessConfig
from diptych.errors import ConfigError
from diptych.families.clip.layouts.open_clip import export_table, table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.mammut import MammutDecoderConfig, MammutTextConfig
from diptych.families.mammut.pretrained import NAFLEX
from diptych.families.siglip import NaflexImageConfig
from diptych.objectives import build_objective
from diptych.weights.native import save_model
from tests.families.native import GRIDS, PATCH, PATCHES, TRUNK, packed, unlike

SIZES = {"vocab_size": 40, "width": 24, "layers": 2, "heads": 2, "mlp_width": 48}
CONFIG = ClipConfig(
    image=TRUNK,
    text=MammutTextConfig(**SIZES),
    decoder=MammutDecoderConfig(**SIZES, picture_width=32, pictures="normed"),
    embed_dim=24,
    preprocess=PreprocessConfig(resize="native", patches=PATCHES, patch_size=PATCH),
)
IDS = torch.tensor([[37, 5, 7, 38, 0], [37, 3, 4, 6, 38], [37, 38, 0, 0, 0]])


def test_captions_read_the_patches_that_a_picture_has(random_model):
    made, pixels = random_model(CONFIG).eval(), packed()
    with torch.no_grad():
        logits = made.next_tokens(IDS, made.read_pictures(pixels))
        for row, (rows, columns) in enumerate(GRIDS):
            # timm's own reading of the picture alone, whose first two tokens are registers.
            levels = pixels[row, :, : rows * columns * PATCH].unflatten(1, (-1, PATCH))
            picture = levels.unflatten(1, (rows, columns)).transpose(2, 3).flatten(3).flatten(1, 2)
            tokens = made.image.trunk.forward_features(picture[None])[:, 2:]
            alone = made.next_tokens(IDS[row : row + 1], made.decoder.read(tokens))
            torch.testing.assert_close(logits[row], alone[0], atol=1e-5, rtol=1e-5)
        for other in (packed(PATCHES + 4), unlike(pixels)):
            found = made.next_tokens(IDS, made.read_pictures(other))
            torch.testing.assert_close(found, logits, atol=1e-5, rtol=1e-5)


def test_a_step_does_not_see_what_fills_rows_up(random_model):
    model = random_model(CONFIG).train()
    objective = build_objective(CocaObjectiveConfig(), model)
    losses = []
    for pixels in (packed(), unlike(packed())):
        lengths = (TextLengths.of([4, 5, 2]),)
        batch = Batch(images=(pixels,), texts=(IDS,), index=torch.arange(3), lengths=lengths)
        losses.append(objective(batch).total)
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    losses[0].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_siglips_tower_says_its_patches_too(random_model):
    sizes = {"image_size": 16, "patch_size": PATCH, "width": 32, "layers": 1, "heads": 2}
    image = NaflexImageConfig(**sizes, mlp_width=64)
    made = random_model(replace(CONFIG, image=image, embed_dim=32, text=_projected())).eval()
    with torch.no_grad():
        wanted = made.next_tokens(IDS, made.read_pictures(packed()))
        found = made.next_tokens(IDS, made.read_pictures(unlike(packed())))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    made.image.set_patch_dropout(0.5)
    with pytest.raises(ConfigError, match="set patch_dropout to 0"):
        made.train().read_pictures(packed())


def _projected():
    return MammutTextConfig(**SIZES, projection=True)


def test_the_layout_both_ways(tmp_path, random_model):
    made = random_model(CONFIG)
    assert from_json(to_json(CONFIG)) == CONFIG
    save_model(tmp_path / "native", made)
    convert(tmp_path / "native", "open-clip", tmp_path / "theirs")
    again, meta = load_model(tmp_path / "theirs")
    assert meta.config == CONFIG
    assert all(torch.equal(value, made.state_dict()[n]) for n, value in again.state_dict().items())


@pytest.mark.parametrize("name", NAFLEX)
def test_models_by_name(name):
    config = pretrained.get(name)
    said = to_json(config)["model_cfg"]
    assert from_json(to_json(config)) == config
    patches = {"mammut2-naflex_ViT-B-16": 256, "mammut2-naflex_ViT-B-32": 64}[name]
    assert said["vision_cfg"]["image_seq_len"] == patches
    assert said["vision_cfg"]["image_size"] == 256
    assert said["vision_cfg"]["timm_model_kwargs"]["pre_norm"] is True
    names = models.build(config, device="meta").state_dict()
    foreign = {each for ours in names for each in export_table(config).foreign_names(ours)}
    assert {"visual.head.proj.weight", "visual.trunk.fc_norm.weight", "text.lm_head"} <= foreign
    assert table(foreign).to_ours(export_table(config).to_foreign(names)).keys() == names.keys()
