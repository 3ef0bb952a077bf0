"""MaMMUT of modern texts computes in both passes what open_clip's main branch says, here written
once more from the formulas; its names and options, both ways. (open_clip 3.3 doesn't have it, and
no weights are published.)"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from diptych import models
from diptych.checkpoints import convert, load_model
from diptych.config import ClipConfig
from diptych.errors import AssumptionWarning, CheckpointError, ConfigError
from diptych.families.clip import VitConfig
from diptych.families.clip.layouts.open_clip import export_table, table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.modern import TwoPassReadersConfig, TwoPassTextConfig
from diptych.families.modern.pretrained import MODELS
from diptych.weights.native import save_model
from tests.families.modern.test_modern import EVERYTHING, Reference, shaken

IMAGE = VitConfig(
    image_size=32, patch_size=16, width=48, layers=1, heads=2, mlp_width=64, pool="patches"
)
SIZES = {"vocab_size": 40, "width": 32, "layers": 3, "heads": 4, "mlp_width": 50}
IDS = torch.tensor([[37, 5, 7, 38, 39, 39], [37, 9, 3, 4, 8, 38], [39] * 6])
"""Short, whole, and all padding."""
VARIANTS = {
    "plain": {},
    "everything": EVERYTHING | {"pre_norm": True, "projection": True, "projection_bias": True},
    "layer norms, a query": {"norm": "layer", "reading": "query", "qk_norm": True, "mlp": "relu2"},
    "at the end, without places": {"reading": "end", "rotary": False, "gated": False},
}
OF_TEXT = ("pre_norm", "projection", "projection_bias", "reading")


def config_of(name, every=2) -> ClipConfig:
    options = VARIANTS[name]
    both = {key: value for key, value in options.items() if key not in OF_TEXT}
    text = TwoPassTextConfig(**SIZES, **options, start_id=37, end_id=38, pad_id=39)
    decoder = TwoPassReadersConfig(**SIZES, **both, every=every, picture_width=48)
    dim = 24 if text.projection else 32
    return ClipConfig(image=IMAGE, text=text, decoder=decoder, embed_dim=dim)


@pytest.fixture
def pixels():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class BothPasses(Reference):
    """open_clip's `ModernMultimodalDecoder`. Without pictures its blocks read none."""

    def states(self, ids, hidden, pictures=None):
        x = self.norm("norm_pre", self.state["token_embedding.weight"][ids])
        if pictures is None:
            with_readers = self.state
            self.state = {n: t for n, t in with_readers.items() if ".xattn." not in n}
            x = self.blocks(x, hidden)
            self.state = with_readers
        else:
            x = self.blocks(x, hidden, pictures)
        return self.norm("ln_final", x)

    def contrast(self, ids):
        real = ids != self.c.pad_id
        real[:, 0] |= ~real.any(1)
        pooled = self.pool(self.states(ids, ~real[:, None, None]), ids, real)
        return self.linear("text_projection", pooled) if self.c.projection else pooled

    def captions(self, ids, pictures):
        later = torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool()
        return self.states(ids, later, pictures) @ self.state["lm_head.weight"].T


@pytest.mark.parametrize("name", VARIANTS)
def test_both_passes_are_the_formulas(pixels, name):
    config = config_of(name)
    made = shaken(config)
    foreign = export_table(config).to_foreign(made.state_dict())
    theirs = BothPasses(foreign, config.text, "text.")
    assert {"text.blocks.0.xattn.q.weight", "text.blocks.2.xattn.q.weight"} <= foreign.keys()
    assert "text.blocks.1.xattn.q.weight" not in foreign
    with torch.no_grad():
        tokens = made.image(pixels, "raw").tokens[:, 1:]
        wanted = theirs.captions(IDS, tokens @ foreign["map_viz2txt_kv"])
        read = made.read_pictures(pixels)
        found = made.next_tokens(IDS, read)
        torch.testing.assert_close(made.text(IDS).pooled, theirs.contrast(IDS), atol=1e-5, rtol=0)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        last = made.next_tokens(IDS[:, :4], read, last=True)[:, 0]
        torch.testing.assert_close(last, found[:, 3], atol=1e-5, rtol=1e-5)
        words = made.text(IDS).tokens
        trained = made.decoder.training_states(made.text, IDS, words, tokens)
        torch.testing.assert_close(made.decoder.logits(trained), found)
        # Several texts of a picture stand beside each other.
        both = torch.stack([IDS, IDS.flip(1)], 1).flatten(0, 1)
        torch.testing.assert_close(made.next_tokens(both, read)[::2], found, atol=1e-5, rtol=1e-5)
        longer = F.pad(IDS, (0, 2), value=39)
        torch.testing.assert_close(made.text(longer).pooled, made.text(IDS).pooled)


def test_a_picture_may_have_fewer_tokens_than_others(pixels):
    made = shaken(config_of("everything"))
    tokens, seen = torch.randn(3, 5, 48), torch.arange(5) < torch.tensor([[5], [2], [4]])
    with torch.no_grad():
        logits = made.next_tokens(IDS, made.decoder.read(tokens, seen))
        words = made.text(IDS).tokens
        states = made.decoder.training_states(made.text, IDS, words, tokens, seen)
        torch.testing.assert_close(made.decoder.logits(states), logits)
        for row, count in enumerate((5, 2, 4)):
            alone = made.decoder.read(tokens[row : row + 1, :count])
            found = made.next_tokens(IDS[row : row + 1], alone)
            torch.testing.assert_close(found[0], logits[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_layout_both_ways(tmp_path, name):
    made = shaken(config_of(name, every=3))
    assert from_json(to_json(made.config)) == made.config
    save_model(tmp_path / "native", made)
    convert(tmp_path / "native", "open-clip", tmp_path / "theirs")
    again, meta = load_model(tmp_path / "theirs")
    assert meta.config == made.config
    assert all(torch.equal(value, made.state_dict()[n]) for n, value in again.state_dict().items())
    (tmp_path / "theirs" / "open_clip_config.json").unlink()
    with pytest.raises(CheckpointError, match="can't be told"):
        load_model(tmp_path / "theirs")


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mammut2")])
def test_a_model_by_name(name):
    config = MODELS[name]
    assert from_json(to_json(config)) == config
    names = models.build(config, device="meta").state_dict()
    foreign = {each for ours in names for each in export_table(config).foreign_names(ours)}
    assert table(foreign).to_ours(export_table(config).to_foreign(names)).keys() == names.keys()
    assert {"text.lm_head.weight", "text.blocks.10.xattn.k_norm.weight"} <= foreign
    assert "text.blocks.11.xattn.q.weight" not in foreign


SAID = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "width": 64, "layers": 1},
    "multimodal_cfg": {"text_arch": "modern", "width": 32, "heads": 2, "layers": 2},
}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"pool_type": "avg_all"}, "pool_type"),
        ({"reg_tokens": 2}, "reg_tokens = 2 has no place in a MaMMUT of modern texts"),
        ({"pool_type": "eos"}, "needs the id of that: end_id"),
        ({"cross_attn_ratio": 3}, "every 3 is above layers 2"),
        ({"vocab_siz": 3}, "vocab_siz"),
    ],
)
def test_what_it_can_not_have_is_said(option, message):
    said = SAID | {"multimodal_cfg": SAID["multimodal_cfg"] | option}
    with pytest.raises((CheckpointError, ConfigError), match=message):
        from_json({"model_cfg": said})


def test_a_mask_of_padding_can_not_be_left_out():
    said = SAID | {"multimodal_cfg": SAID["multimodal_cfg"] | {"use_pad_mask": False}}
    with pytest.warns(AssumptionWarning, match="use_pad_mask has no effect on modern texts"):
        found = from_json({"model_cfg": said})
    assert found == from_json({"model_cfg": SAID})


@pytest.fixture
def tied():
    """A model whose logits are made by the words' table."""
    config = config_of("everything")
    return shaken(replace(config, decoder=replace(config.decoder, tied=True)))


def test_logits_by_the_table_of_words(tied, pixels):
    """Those of a model whose matrix is equal to the table; there is one parameter for both."""
    apart = models.build(config_of("everything")).eval()
    table = {"decoder.projection.weight": tied.text.tokens.weight}
    apart.load_state_dict(tied.state_dict() | table)
    with torch.no_grad():
        found = tied.next_tokens(IDS, tied.read_pictures(pixels), last=True)
        assert torch.equal(found, apart.next_tokens(IDS, apart.read_pictures(pixels), last=True))
    assert apart.state_dict().keys() - tied.state_dict().keys() == table.keys()


def test_one_matrix_has_two_names_in_open_clip(tmp_path, tied):
    save_model(tmp_path / "native", tied)
    convert(tmp_path / "native", "open-clip", tmp_path / "theirs")
    file = tmp_path / "theirs" / "open_clip_model.safetensors"
    stored = load_file(file)
    assert torch.equal(stored["text.lm_head.weight"], stored["text.token_embedding.weight"])
    # safetensors' own `save_model` leaves one of them away.
    for lacking in ("", "text.lm_head.weight", "text.token_embedding.weight"):
        save_file({name: stored[name] for name in stored if name != lacking}, file)
        again, meta = load_model(tmp_path / "theirs")
        assert meta.config == tied.config
        for name, tensor in tied.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor)
    save_file(stored | {"text.lm_head.weight": stored["text.lm_head.weight"] + 1}, file)
    with pytest.raises(CheckpointError, match=r"\(tie_lm_head\), and they differ") as caught:
        load_model(tmp_path / "theirs")
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit_are_refused():
    whole = config_of("plain")
    shared = replace(whole.decoder, tied=True, vocab_size=41)
    for changed, message in (
        (replace(whole, decoder=shared), "vocab_size 41 must be the text tower's, 40"),
        (replace(whole, embed_dim=16), "embed_dim must be its width, 32, and is 16"),
        (replace(whole, text=replace(whole.text, layers=2)), "text.layers 3, and this model has 2"),
        (replace(whole, decoder=replace(whole.decoder, picture_width=64)), "image.width 64"),
    ):
        with pytest.raises(ConfigError, match=message):
            models.build(changed, device="meta")
    for option in ({"causal": True}, {"registers": 2}, {"still_padding": True}):
        with pytest.raises(ConfigError, match=next(iter(option))):
            TwoPassTextConfig(**SIZES, **option, start_id=37, end_id=38, pad_id=39)


def test_fresh_weights_have_their_spread():
    torch.manual_seed(0)
    made = models.build(config_of("plain"))
    reader = made.decoder.readers[0]
    for found, wanted in (
        (reader.reader.q.weight, 32**-0.5),
        (reader.reader.out.weight, (2 * 3 * 32) ** -0.5),
        (made.text.blocks[0].mlp.down.weight, (2 * 3 * 32) ** -0.5),
        (made.decoder.pictures.weight, 48**-0.5),
        (made.decoder.projection.weight, 32**-0.5),
    ):
        assert float(found.detach().std()) == pytest.approx(wanted, rel=0.2)
    everything = models.build(config_of("everything"))
    scale = everything.decoder.readers[1].scale_reader.gains
    assert torch.equal(scale, torch.full_like(scale, 0.7))
    flat = float(everything.decoder.readers[0].reader.q.weight.detach().std())
    assert flat == pytest.approx(0.02, rel=0.2)
