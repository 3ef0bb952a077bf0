"""compat's CoCa by what open_clip's main branch asks of it: its decoder's parts, losses of captions
that the model is told, and `generate`."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from diptych import compat, models
from diptych.compat.faces.native import decoder_of
from diptych.compat.loss import caption_cross_entropy
from diptych.compat.transformer import ModernMultimodalTransformer, MultimodalTransformer
from diptych.errors import ConfigError
from diptych.families.coca import CocaDecoderConfig
from diptych.families.coca.decoder import CocaDecoder
from diptych.models import Clip
from diptych.weights.mapping import Table

VISION = {
    "image_size": 32,
    "patch_size": 16,
    "width": 64,
    "layers": 1,
    "attentional_pool": True,
    "attn_pooler_queries": 5,
    "attn_pooler_heads": 2,
    "output_tokens": True,
}
TEXT = {"context_length": 8, "vocab_size": 60, "width": 32, "heads": 2, "layers": 2}
CLASS = {"embed_cls": True, "output_tokens": True}
MODERN = {"text_arch": "modern", "pool_type": "eos", "bos_id": 1, "eos_id": 2}
WORDS = {"generation_type": "top_k", "seq_len": 6, "min_seq_len": 3}
IDS = torch.tensor([[1, 5, 9, 2, 0, 0, 0, 0], [1, 6, 7, 8, 3, 4, 2, 0]])


def made(pools=True, modern=False):
    torch.manual_seed(0)
    text = TEXT | MODERN | {"output_tokens": True} if modern else TEXT | CLASS
    decoder = TEXT | MODERN | {"pool_type": "argmax"} if modern else TEXT
    model = compat.CoCa(
        32,
        multimodal_cfg=decoder,
        text_cfg=text,
        vision_cfg=VISION | {"attentional_pool": pools},
        pad_id=7 if modern else 0,
    )
    model.bos_id, model.eos_id = 1, 2
    return model.eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


KINDS = pytest.mark.parametrize(
    ("pools", "modern"), [(True, False), ("cascade", False), ("cascade", True)]
)


@KINDS
def test_the_decoder_reads_no_padding_of_pictures(pools, modern):
    decoder = made(pools, modern).text_decoder
    assert isinstance(decoder, ModernMultimodalTransformer if modern else MultimodalTransformer)
    matrix, bias = decoder.lm_head_params
    assert (matrix.shape, bias) == ((60, 32), None)
    texts, pictures = torch.randn(2, 4, 32), torch.randn(2, 3, 32)
    filled = torch.cat([pictures, torch.randn(2, 2, 32)], dim=1)
    valid = torch.tensor([[1, 1, 1, 0, 0]] * 2)
    wanted = decoder(pictures, texts)
    torch.testing.assert_close(decoder(filled, texts, context_valid=valid), wanted)
    assert not torch.allclose(decoder(filled, texts), wanted, atol=1e-3)
    states = decoder(pictures, texts, return_hidden=True)
    torch.testing.assert_close(states @ matrix.T, wanted)


def test_a_decoder_without_its_matrix_gives_states():
    decoder = made().text_decoder
    decoder.text_projection = None
    assert decoder(torch.zeros(1, 3, 32), torch.zeros(1, 4, 32)).shape == (1, 4, 32)
    with pytest.raises(ConfigError, match="text_projection was taken away"):
        _ = decoder.lm_head_params


@KINDS
def test_losses_of_labels_are_those_of_logits(pixels, pools, modern):
    model = made(pools, modern).double().train()
    batch = {"image": pixels.double(), "text": IDS}
    labels = IDS[:, 1:].masked_fill(IDS[:, 1:] == 0, -100)
    logits = model(**batch, output_labels=False)["logits"][:, :-1]
    wanted = caption_cross_entropy(logits, labels, z_loss=True)
    (wanted[0] + wanted[1]).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    given = model(**batch, labels=labels, caption_z_loss=True, caption_loss_chunk_size=3)
    assert "logits" not in given
    found = given["caption_loss_ce"], given["caption_loss_z"]
    torch.testing.assert_close(found, wanted)
    sum(found).backward()
    for name, parameter in model.named_parameters():
        if name in grads:
            torch.testing.assert_close(parameter.grad, grads[name], msg=name)


@KINDS
def test_logits_are_those_of_the_open_clip_that_has_the_model(pixels, pools, modern):
    """3.3 gives labels, and no logits for the last token; its main branch the whole."""
    model = made(pools, modern)
    with torch.no_grad():
        found, whole = model(pixels, IDS), model(pixels, IDS, output_labels=False)
        short = model(pixels, IDS, output_labels=True)
        masked = model(pixels, IDS, text_valid=IDS != 0)  # a call of the main branch's alone
    assert "labels" not in whole
    assert torch.equal(short["labels"], IDS[:, 1:])
    torch.testing.assert_close(short["logits"], whole["logits"][:, :-1])
    assert found.keys() == (short if pools is True else whole).keys()
    assert found["logits"].shape == (2, 7 if pools is True else 8, 60)
    torch.testing.assert_close(masked["logits"], whole["logits"])


def test_pictures_or_texts_alone(pixels):
    model = made()
    with torch.no_grad():
        assert model(pixels).keys() == {"image_features", "image_embs"}
        found = model(text=IDS)
        assert found.keys() == {"text_features"}
        torch.testing.assert_close(found["text_features"], model.encode_text(IDS))


class Other(nn.Module):
    """A text tower of one's own, which computes what the first one does."""

    def __init__(self, tower):
        super().__init__()
        self.inner = tower
        self.calls = 0

    def forward(self, ids):
        self.calls += 1
        self.inner.output_tokens = True
        return self.inner(ids)


@pytest.mark.parametrize("kind", ["top_k", "beam_search"])
def test_a_replaced_text_tower_writes(pixels, kind):
    model, said = made(), WORDS | {"generation_type": kind}
    wanted = model.generate(pixels, **said)
    model.text = Other(model.text)
    with pytest.raises(ConfigError, match="parts of this model were replaced"):
        _ = model.clip
    assert torch.equal(model.generate(pixels, **said), wanted)
    assert model.text.calls > 1


def test_texts_to_go_on_from_lose_their_common_padding(pixels):
    model = made(modern=True)
    texts = torch.tensor([[5, 6], [7, 8]])
    wanted = model.generate(pixels, text=texts, **WORDS)
    assert torch.equal(wanted[:, :2], texts)
    filled, valid = nn.functional.pad(texts, (0, 2)), torch.tensor([[1, 1, 0, 0]] * 2)
    assert torch.equal(model.generate(pixels, text=filled, text_valid=valid, **WORDS), wanted)
    for rows in ([[1, 1, 0, 0], [1, 0, 0, 0]], [[0, 1, 1, 1]] * 2, [[0, 0, 0, 0]] * 2):
        with pytest.raises(ConfigError, match="the same valid length"):
            model.generate(pixels, text=filled, text_valid=torch.tensor(rows), **WORDS)


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        ({}, {"generation_type": "top_k", "top_k": 1, "min_seq_len": 0}),
        (
            {"max_length": 6, "min_length": 3, "do_sample": True, "top_k": 4, "temperature": 0.5},
            {**WORDS, "top_k": 4, "temperature": 0.5},
        ),
        (
            {"max_length": 6, "do_sample": True, "repetition_penalty": 2.0, "eos_token_id": 4},
            {
                **WORDS,
                "min_seq_len": 0,
                "top_k": 50,
                "repetition_penalty": 2.0,
                "eos_token_id": 4,
            },
        ),
        (
            {"max_length": 6, "do_sample": True, "top_p": 0.7, "bos_token_id": 3},
            {
                "seq_len": 6,
                "min_seq_len": 0,
                "generation_type": "top_p",
                "top_p": 0.7,
                "sot_token_id": 3,
            },
        ),
        (
            {"max_length": 6, "num_beams": 4},
            {"seq_len": 6, "min_seq_len": 0, "num_beams": 4, "num_beam_groups": 1},
        ),
    ],
    ids=["greedy", "number", "all", "share", "beams"],
)
def test_a_generation_config_says_what_arguments_say(pixels, config, arguments):
    model, said = made(), GenerationConfig(**config)
    found = []
    for given in ({"generation_config": said}, arguments):
        torch.manual_seed(3)
        found.append(model.generate(pixels, **({"seq_len": 5} | given)))
    assert torch.equal(*found)
    assert said.to_diff_dict().items() >= config.items()


def test_a_generation_config_counts_behind_the_text(pixels):
    text = torch.tensor([[5, 6, 0], [7, 8, 0]])
    given = {"text": text, "text_valid": text != 0, "fixed_output_length": True}
    for said, length in (
        ({"max_new_tokens": 2, "min_new_tokens": 1}, 4),
        ({"max_new_tokens": 2, "max_length": 6}, 4),
        ({"max_length": 6}, 6),
    ):
        found = made().generate(pixels, generation_config=GenerationConfig(**said), **given)
        assert found.shape == (2, length)
        assert torch.equal(found[:, :2], text[:, :2])
    with pytest.raises(ConfigError, match="seq_len 102 is above"):
        made().generate(pixels, generation_config=GenerationConfig(max_new_tokens=100), **given)


def test_a_generation_config_that_does_not_fit(pixels):
    for config, message in (
        (GenerationConfig(no_repeat_ngram_size=2), "no_repeat_ngram_size has no counterpart"),
        (GenerationConfig(eos_token_id=[1, 2]), r"eos_token_id \[1, 2\] must be one number"),
        (GenerationConfig(do_sample=True, top_k=2, top_p=0.5), "one of top_k and top_p"),
        (GenerationConfig(do_sample=True, num_beams=2), "without num_beams"),
        ({"max_length": 6}, "generation_config is a dict"),
    ):
        with pytest.raises(ConfigError, match=message):
            made().generate(pixels, generation_config=config)


def test_a_decoder_of_other_sizes_and_one_of_ones_own():
    config = made().config
    sizes = {"mlp_width": 48, "norm_eps": 1e-6}
    clip = models.build(replace(config, decoder=replace(config.decoder, **sizes)))
    model = compat.CoCa.of(clip)
    texts, pictures = torch.randn(2, 4, 32), torch.randn(2, 3, 32)
    wanted = clip.decoder(texts, clip.decoder.read(pictures))
    torch.testing.assert_close(model.text_decoder(pictures, texts), wanted)
    assert model.text_decoder.resblocks[0].mlp.c_fc.out_features == 48

    class Mine(CocaDecoderConfig):
        implementation = "diptych.families.coca.decoder:CocaDecoder"

    own = CocaDecoder(Mine(vocab_size=60, width=32, layers=1, heads=2, mlp_width=128))
    with pytest.raises(ConfigError, match="no decoder like that of a Mine"):
        decoder_of(own, Table(()))


def test_the_whole_model_again_after_a_change_of_numbers(pixels):
    model = made()
    with torch.no_grad():
        model.text_decoder.text_projection.mul_(2)
        assert isinstance(model.clip, Clip)
        wanted = model(pixels, IDS)["logits"]
        again = model.clip.next_tokens(IDS, model.clip.read_pictures(pixels))
    torch.testing.assert_close(again[:, :-1], wanted)
