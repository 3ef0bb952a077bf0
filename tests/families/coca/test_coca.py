"""open_clip computes what we compute with the same CoCa weights, and writes the same captions."""

import json
import operator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import diptych
from diptych import compat, models, pretrained
from diptych.checkpoints import convert, load_model
from diptych.compat.transformer import MultimodalTransformer
from diptych.config import ClipConfig
from diptych.config.serialize import difference, to_dict
from diptych.encoder.captions import limits_of
from diptych.errors import CheckpointError, ConfigError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.families.clip.layouts.open_clip_config import from_json, to_json
from diptych.families.coca import CocaDecoderConfig, CocaImageConfig, CocaTextConfig
from diptych.families.coca.pretrained import MODELS
from diptych.families.infer import infer
from diptych.models.beams import Limits, search
from diptych.objectives import Objective
from diptych.weights.native import save_model

open_clip = pytest.importorskip("open_clip")

VISION = {
    "image_size": 32,
    "layers": 2,
    "width": 64,
    "patch_size": 16,
    "head_width": 32,
    "attentional_pool": True,
    "attn_pooler_queries": 5,
    "attn_pooler_heads": 4,
    "output_tokens": True,
}
TEXT = {
    "context_length": 12,
    "vocab_size": 620,
    "width": 32,
    "heads": 4,
    "layers": 2,
    "embed_cls": True,
    "output_tokens": True,
}
DECODER = {"context_length": 12, "vocab_size": 620, "width": 32, "heads": 4, "layers": 2}
CFG = {
    "embed_dim": 32,
    "vision_cfg": VISION,
    "text_cfg": TEXT,
    "multimodal_cfg": DECODER,
    "custom_text": True,
}
START, END = 618, 619
IDS = torch.tensor(
    [
        [START, 320, 236, END, 0, 0, 0, 0, 0, 0, 0, 0],
        [START, *range(500, 510), END],
        [START, *range(600, 609), END, 0],
        [START, END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
)
"""Short, as long as the context, one shorter, empty."""


def peer(randomise, **changes):
    cfg = {name: value for name, value in (CFG | changes).items() if name != "custom_text"}
    return randomise(open_clip.CoCa(**cfg)).eval()


@pytest.fixture
def folder(tmp_path):
    """Writes a model of open_clip's as it publishes one."""

    def write(theirs, cfg=CFG):
        path = tmp_path / "in"
        path.mkdir()
        save_file(theirs.state_dict(), path / "open_clip_model.safetensors")
        (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
        return path

    return write


@pytest.fixture
def pixels():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quick_gelu": True},
        {
            "embed_dim": 64,
            "multimodal_cfg": DECODER | {"width": 64},
            "text_cfg": TEXT | {"width": 64},
        },
        {
            "vision_cfg": {
                k: v for k, v in VISION.items() if k[:6] != "attn_p" and k != "attentional_pool"
            },
            "multimodal_cfg": DECODER | {"width": 64},
            "text_cfg": TEXT | {"width": 64},
        },
    ],
    ids=["small", "quick", "of one width", "without a pool"],
)
def test_both_ways(randomise, folder, tmp_path, pixels, changes):
    cfg, theirs = CFG | changes, peer(randomise, **changes)
    ours, meta = load_model(folder(theirs, cfg))
    with torch.inference_mode():
        wanted = theirs(pixels, IDS)
        same(ours.encode_image(pixels, normalize=True), wanted["image_features"])
        same(ours.encode_text(IDS, normalize=True), wanted["text_features"])
        # Padding is left out as far as it goes.
        same(ours.encode_text(IDS[:1, :4]), ours.encode_text(IDS)[:1])
        same(ours.encode_text(IDS[2:3, :11]), ours.encode_text(IDS)[2:3])
        logits = ours.next_tokens(IDS[:, :-1], ours.read_pictures(pixels))
        real = IDS[:, :-1] != 0
        same(logits[real], wanted["logits"][real])
    convert(tmp_path / "in", "open-clip", tmp_path / "out")
    written = load_file(tmp_path / "out" / "open_clip_model.safetensors")
    before = theirs.state_dict()
    assert before.keys() == written.keys()
    assert all(torch.equal(before[name], written[name]) for name in before)
    again = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())
    there = peer(randomise, **again["model_cfg"])
    there.load_state_dict(written)
    assert there(pixels)["image_embs"].ndim == 3
    assert from_json(again) == meta.config
    save_model(tmp_path / "native", ours)
    loaded, own = load_model(tmp_path / "native")
    assert own.config == meta.config
    with torch.inference_mode():
        assert torch.equal(loaded.encode_text(IDS), ours.encode_text(IDS))


@pytest.mark.parametrize("name", MODELS)
def test_every_published_model_is_open_clips(name):
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    wanted = json.loads(file.read_text())
    config = pretrained.get(name)
    assert not difference(config, from_json({"model_cfg": wanted}))
    assert from_json(to_json(config)) == config
    tags = open_clip.list_pretrained_tags_by_model(name)
    for tag in tags:
        repo = open_clip.get_pretrained_cfg(name, tag)["hf_hub"].rstrip("/")
        assert pretrained.weights(f"{name}/{tag}").repo == repo
        assert pretrained.weights(repo).tags == (tag,)
    del wanted["custom_text"]
    with torch.device("meta"):
        theirs = open_clip.CoCa(**wanted).state_dict()
    meta = models.build(config, device="meta")
    ours = export_table(config).to_foreign(meta.state_dict())
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    # open_clip, docs/model_profile.csv: millions of parameters, billions of operations
    counted = {"coca_ViT-B-32": (253.56, 33.34), "coca_ViT-L-14": (638.45, 214.52)}[name]
    parameters = sum(p.numel() for p in meta.parameters()) / 1e6
    assert parameters == pytest.approx(counted[0], abs=0.006)
    flops = sum(part.flops() for part in (meta.image, meta.text, meta.decoder)) / 1e9
    assert flops == pytest.approx(counted[1], rel=0.03)
    # Weights alone tell it all but what is assumed aloud.
    assert infer(meta.state_dict(), "gelu") == config


def test_operations_are_counted():
    model = models.build(from_json({"model_cfg": CFG})).requires_grad_(False).eval()
    words, picture = torch.zeros(1, 12, 32), torch.zeros(1, 255, 32)
    for part, run in (
        (model.image, lambda: model.image(torch.randn(1, 3, 32, 32))),
        (model.text, lambda: model.text(IDS[1:2])),
        (model.decoder, lambda: model.decoder(words, model.decoder.read(picture))),
    ):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        assert part.flops() == counter.get_total_flops()


def test_fresh_weights_have_their_spread():
    torch.manual_seed(0)
    model = models.build(from_json({"model_cfg": CFG}))
    reader = model.decoder.readers[0]
    for found, wanted in (
        (model.image.pool.query, 1.0),
        (model.image.positions, 1 / 8),
        (model.text.positions, 0.01),
        (reader.qkv.weight, 32**-0.5),
        (reader.out.weight, (2 * 2 * 32) ** -0.5),
        (model.decoder.projection.weight, 32**-0.5),
    ):
        assert float(found.detach().std()) == pytest.approx(wanted, rel=0.25)


class Scorer:
    """transformers' beam search as it was up to version 4, which open_clip calls, plainly."""

    def __init__(self, batch_size, num_beams, device, num_beam_groups):
        self.num_beams, self.num_beam_groups = num_beams, num_beam_groups
        self.size = num_beams // num_beam_groups
        self._beam_hyps = [[] for _ in range(batch_size * num_beam_groups)]
        self.done = [False] * len(self._beam_hyps)

    @property
    def is_done(self):
        return all(self.done)

    def add(self, place, tokens, score):
        kept = self._beam_hyps[place]
        if len(kept) < self.size or score > min(each[0] for each in kept):
            kept.append((score, tokens))
            if len(kept) > self.size:
                kept.remove(min(kept, key=lambda each: each[0]))

    def process(self, ids, scores, tokens, numbers, pad_token_id, eos_token_id, group_index, **_):
        count, length = len(scores), ids.shape[1] + 1
        shape = (count, self.size)
        next_scores, next_tokens = torch.zeros(shape), torch.zeros(shape, dtype=torch.long)
        next_numbers = torch.zeros(shape, dtype=torch.long)
        for i in range(count):
            place, filled = i * self.num_beam_groups + group_index, 0
            if self.done[place]:
                next_tokens[i] = pad_token_id
                continue
            for rank in range(2 * self.size):
                score, number = float(scores[i, rank]), i * self.size + int(numbers[i, rank])
                if int(tokens[i, rank]) == int(eos_token_id):
                    if rank < self.size:
                        self.add(place, ids[number].clone(), score / length)
                else:
                    next_scores[i, filled], next_numbers[i, filled] = score, number
                    next_tokens[i, filled] = tokens[i, rank]
                    filled += 1
                if filled == self.size:
                    break
            kept = self._beam_hyps[place]
            full = len(kept) == self.size
            best = float(scores[i].max()) / length
            self.done[place] = full and min(each[0] for each in kept) >= best
        return {
            "next_beam_scores": next_scores.view(-1),
            "next_beam_tokens": next_tokens.view(-1),
            "next_beam_indices": next_numbers.view(-1),
        }

    def finalize(self, ids, scores, *_, max_length, pad_token_id, eos_token_id, **__):
        for place in range(len(self._beam_hyps)):
            for beam in range(self.size):
                row = place * self.size + beam
                if not self.done[place]:
                    self.add(place, ids[row], float(scores[row]) / ids.shape[1])
        best, groups = [], self.num_beam_groups
        for i in range(0, len(self._beam_hyps), groups):
            every = [each for kept in self._beam_hyps[i : i + groups] for each in kept]
            best.append(max(every, key=lambda each: each[0])[1])
        longest = min(max(map(len, best)) + 1, max_length)
        rows = torch.full((len(best), longest), pad_token_id)
        for row, tokens in zip(rows, best, strict=True):
            row[: len(tokens)] = tokens
            if len(tokens) < longest:
                row[len(tokens)] = int(eos_token_id)
        return {"sequences": rows}


@pytest.fixture
def generating(monkeypatch):
    """open_clip's generation, which wants a transformers that still had beam search."""
    transformers = pytest.importorskip("transformers")
    module = open_clip.coca_model
    for name in (
        "LogitsProcessorList",
        "RepetitionPenaltyLogitsProcessor",
        "MinLengthLogitsProcessor",
        "MaxLengthCriteria",
        "StoppingCriteriaList",
    ):
        monkeypatch.setattr(module, name, getattr(transformers, name), raising=False)
    monkeypatch.setitem(module.GENERATION_TYPES, "top_k", transformers.TopKLogitsWarper)
    monkeypatch.setitem(module.GENERATION_TYPES, "top_p", transformers.TopPLogitsWarper)
    monkeypatch.setattr(module, "_has_transformers", True)
    monkeypatch.setattr(module, "BeamSearchScorer", Scorer, raising=False)


SMALL = CFG | {
    "text_cfg": TEXT | {"vocab_size": 24},
    "multimodal_cfg": DECODER | {"vocab_size": 24},
}


def ended(rows, end):
    """Words of each row, without start, end and padding."""
    words = []
    for row in rows:
        row = list(map(int, row))[1:]
        words.append(row[: row.index(end)] if end in row else row)
    return words


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beams", [1, 2, 3])
def test_captions_are_open_clips(generating, folder, randomise, seed, beams):
    changes = {name: SMALL[name] for name in ("text_cfg", "multimodal_cfg")}
    theirs = peer(randomise, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # far apart, and sometimes soon at their end
        for parameter in theirs.text_decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    ours, _ = load_model(folder(theirs, SMALL))
    pixels = torch.randn(5, 3, 32, 32, generator=generator)
    start, end, most, least = 22, 23, 11, 4
    given = {"seq_len": most, "min_seq_len": least, "sot_token_id": start, "eos_token_id": end}
    kind = {"generation_type": "top_k", "top_k": 1}
    if beams > 1:
        kind = {"generation_type": "beam_search", "num_beams": beams, "num_beam_groups": 1}
    wanted = theirs.generate(pixels, **given, **kind)
    with torch.inference_mode():
        read = ours.read_pictures(pixels)
        found = search(
            lambda ids: ours.next_tokens(ids, read, last=True)[:, 0],
            len(pixels),
            beams,
            Limits(start=start, end=end, least=least, most=most),
        )
    assert ended(found, end) == ended(wanted, end)
    if beams == 2:  # its default: three groups of two, which nothing keeps apart
        kind |= {"num_beams": 6, "num_beam_groups": 3}
        assert ended(theirs.generate(pixels, **given, **kind), end) == ended(wanted, end)


def test_open_clips_spelling(generating, folder, randomise):
    """`diptych.compat` has the same names, vectors of unit length, and captions."""
    theirs = peer(randomise)
    path = folder(theirs)
    model, _, _ = compat.create_model_and_transforms(f"local-dir:{path}")
    wanted = theirs.state_dict()
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert {name for name, _ in model.named_parameters()} == set(dict(theirs.named_parameters()))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        same(model.encode_image(pixels), theirs.encode_image(pixels))
        same(model.encode_text(IDS), theirs.encode_text(IDS))
        _, tokens = theirs.visual(pixels)
        words = theirs.text(IDS[:2])[1]
        wanted = theirs.text_decoder(tokens, words)
        same(model.text_decoder(tokens, words), wanted)
    assert isinstance(model.text_decoder, MultimodalTransformer)
    for given, message in (
        ({"generation_type": "top_n"}, "top_n"),
        ({"text": IDS[:2]}, "text doesn't go with beam_search"),
        ({"repetition_penalty": 1.2}, "repetition_penalty doesn't go with beam_search"),
        ({"stopping_criteria": [len]}, "say seq_len"),
        ({"seq_len": 20}, "seq_len 20 is above 12, the model's context_length"),
        ({"seq_len": 8, "max_seq_len": 4}, "max_seq_len 4 is below seq_len 8"),
        ({"seq_len": 8, "min_seq_len": 8}, "min_seq_len 8 must lie from 0 to 7"),
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"top_p": 1.5}, "top_p 1.5 must lie"),
        (
            {"seq_len": 8, "generation_type": "top_k", "text": IDS[:1]},
            "1 texts to go on from and 2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(pixels, **given)


def test_checkpointing_gives_the_same_gradients_from_less_memory(randomise):
    """As open_clip's `set_grad_checkpointing`, which is its decoder's, too."""
    model = compat.CoCa(**{name: CFG[name] for name in CFG if name != "custom_text"})
    model.load_state_dict(peer(randomise).state_dict())
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    grads, kept = [], []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            decoded = model.text_decoder(*tokens_of(model, pixels))
        kept.append(sum(sizes))
        decoded.square().sum().backward()
        grads.append([p.grad.clone() for p in model.text_decoder.parameters()])
    assert kept[1] < kept[0] / 2
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected)


def tokens_of(model, pixels):
    """What the decoder reads, without a graph."""
    with torch.no_grad():
        output = model(pixels)
        return output["image_embs"], model.text(IDS[:2])[1]


def test_captions_in_open_clips_spelling(generating, folder, randomise):
    words = {"vocab_size": 49408}
    changes = {"text_cfg": TEXT | words, "multimodal_cfg": DECODER | words}
    theirs = peer(randomise, **changes)
    path = folder(theirs, CFG | changes)
    model, _, _ = compat.create_model_and_transforms(f"local-dir:{path}")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    for kind in ({}, {"generation_type": "top_k", "top_k": 1}):
        given = {"seq_len": 10, "min_seq_len": 3} | kind
        ours, wanted = model.generate(pixels, **given), theirs.generate(pixels, **given)
        assert ended(ours, 49407) == ended(wanted, 49407)
        text = open_clip.decode(wanted[0]).split("<end_of_text>")[0]
        assert compat.decode(ours[0]).split("<end_of_text>")[0].strip() == text.strip()


@pytest.mark.parametrize(
    "kind",
    [
        {"generation_type": "top_p", "top_p": 0.4},
        {"generation_type": "top_p", "top_p": 0.9, "temperature": 0.7, "repetition_penalty": 1.5},
        {"generation_type": "top_k", "top_k": 20, "fixed_output_length": True, "pad_token_id": 7},
        {"generation_type": "top_k", "top_k": 5, "text": IDS[:2, :2]},
        {"generation_type": "beam_search", "fixed_output_length": True},
    ],
    ids=["share", "penalty", "number", "prompt", "beams"],
)
def test_words_are_drawn_as_open_clip_draws_them(generating, folder, randomise, kind):
    words = {"vocab_size": 49408}
    changes = {"text_cfg": TEXT | words, "multimodal_cfg": DECODER | words}
    theirs = peer(randomise, **changes)
    with torch.no_grad():  # so that a few words share what is likely
        theirs.text_decoder.text_projection.mul_(20)
    model, _, _ = compat.create_model_and_transforms(f"local-dir:{folder(theirs, CFG | changes)}")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    given = {"seq_len": 12, "min_seq_len": 3} | kind
    found = []
    for made in (model, theirs):
        torch.manual_seed(5)
        found.append(made.generate(pixels, **given))
    assert torch.equal(*found)
    if "text" in kind:
        torch.manual_seed(5)
        one = kind | {"text": kind["text"][0], "seq_len": 12, "min_seq_len": 3}
        assert model.generate(pixels[:1], **one).ndim == 1


def test_which_words_end_a_caption(folder, randomise):
    """Ids may be given; else the model's own. So is what padding is."""
    theirs = peer(randomise)
    model = compat.CoCa(**{name: CFG[name] for name in CFG if name != "custom_text"}, pad_id=3)
    assert (model.pad_id, compat.create_model(f"local-dir:{folder(theirs)}").pad_id) == (3, 0)
    model.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    given = {"sot_token_id": START, "eos_token_id": END, "generation_type": "top_k"}
    rows = model.eval().generate(pixels, seq_len=6, min_seq_len=2, **given)
    assert (rows[:, 0] == START).all()
    assert all(END in row or 3 in row for row in rows.tolist())
    model.pad_id = 5
    assert model.pad_id == 5


@pytest.mark.parametrize("past", [None, "states"])
def test_a_steps_inputs_are_open_clips(past):
    ids, mask = IDS[:, :4], (IDS[:, :4] != 0).long()
    for given in ({}, {"attention_mask": mask}, {"attention_mask": mask, "position_ids": ids}):
        found, wanted = (
            module.prepare_inputs_for_generation(ids, "pictures", past=past, **given)
            for module in (compat.coca_model, open_clip.coca_model)
        )
        assert found.keys() == wanted.keys()
        for name in found:
            alike = torch.equal if isinstance(found[name], torch.Tensor) else operator.eq
            assert alike(found[name], wanted[name]), name


@torch.no_grad()
def test_which_tokens_are_padding_may_be_said(randomise):
    """As open_clip's main branch has it: an id 0 within a text isn't padding."""
    model = compat.CoCa(**{name: CFG[name] for name in CFG if name != "custom_text"}).eval()
    text = torch.tensor([[START, 5, 0, 7, END, 0, 0, 0]])
    real = torch.tensor([[True] * 5 + [False] * 3])
    pixels = torch.zeros(1, 3, 32, 32)
    found = model.encode_text(text, text_valid=real)
    assert not torch.allclose(model.encode_text(text), found)
    same(model.encode_text(text, text_valid=text != 0), model.encode_text(text))
    same(model.forward_intermediates(text=text, text_valid=real)["text_features"], found)
    same(model(pixels, text, text_valid=real)["text_features"], found)
    model.text = torch.nn.Identity()
    with pytest.raises(ConfigError, match="leave out text_valid"):
        model.encode_text(text, text_valid=real)


@torch.no_grad()
def test_the_padding_itself_may_be_hidden(randomise, tmp_path):
    """open_clip 3.3's tower has it by `correct_cls_mask`, which its configurations don't reach."""
    theirs = peer(randomise)
    theirs.text.correct_cls_mask = True
    cfg = CFG | {"text_cfg": TEXT | {"correct_cls_mask": True}}
    given = {name: cfg[name] for name in cfg if name != "custom_text"}
    model = compat.CoCa(**given).eval()
    model.load_state_dict(theirs.state_dict())
    wanted = theirs.encode_text(IDS)
    same(model.encode_text(IDS), wanted)
    ours = model.clip
    same(ours.encode_text(IDS, normalize=True), wanted)
    same(ours.encode_text(IDS[:1, :4]), ours.encode_text(IDS)[:1])  # padding, left out
    assert ours.encode_text(torch.zeros(1, 12, dtype=torch.long)).isfinite().all()
    tokens, words = ours.text(IDS).tokens, theirs.text(IDS)[1]
    same(tokens[IDS != 0], words[IDS != 0])
    same(ours.text(IDS).pooled, ours.text(IDS, "none").pooled)
    config = from_json({"model_cfg": cfg})
    assert config.text.exact_padding
    assert from_json(to_json(config)) == config
    assert to_json(config)["model_cfg"]["text_cfg"]["correct_cls_mask"]
    other = compat.CoCa(**given | {"text_cfg": TEXT}).eval()
    other.load_state_dict(theirs.state_dict())
    assert not torch.allclose(other.encode_text(IDS), wanted)


def test_beams_by_hand():
    """Two words, a and b, and the end. Greedily a wins (2 against 1.5) and then nothing good comes;
    with two beams b, whose end is worth 9, is found."""
    a, b, end, start = range(4)
    after = {start: [2.0, 1.5, -5, -9], a: [0.5, 0, 1.0, -9], b: [0, 0, 9.0, -9]}

    def next_logits(ids):
        return torch.tensor([after[int(last)] for last in ids[:, -1]])

    limits = Limits(start=start, end=end, least=0, most=6)
    assert search(next_logits, 1, 1, limits) == [(start, a, end)]
    assert search(next_logits, 1, 2, limits) == [(start, b, end)]
    # No end before four tokens: a goes on with itself, the best that may follow.
    assert search(next_logits, 1, 1, limits._replace(least=4)) == [(start, a, a, a, end)]
    # The last place is the end's.
    assert search(next_logits, 1, 1, limits._replace(least=9)) == [(start, a, a, a, a)]


@pytest.fixture
def encoder():
    words = {"vocab_size": 49408}  # of CLIP's tokenizer
    changes = {"text_cfg": TEXT | words, "multimodal_cfg": DECODER | words}
    torch.manual_seed(3)
    return diptych.Encoder(models.build(from_json({"model_cfg": CFG | changes})).eval())


def test_an_encoder_writes_captions(encoder):
    pictures = [np.full((40, 50, 3), level, np.uint8) for level in (10, 200, 90)]
    captions = encoder.caption(pictures, most=8, least=3)
    assert [type(caption) for caption in captions] == [str, str, str]
    assert encoder.caption(pictures[1], most=8, least=3) == captions[1]
    assert encoder.caption(pictures, most=8, least=3, batch_size=2) == captions
    assert encoder.caption([], most=8) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most": 13}, "most 13: a caption has from 2 to 12 tokens"),
        ({"most": 1}, "most 1"),
        ({"most": 8, "least": 8}, "least 8 must lie from 0 to 7, below most"),
        ({"most": 8, "beams": 0}, "beams 0 must be at least 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(encoder, options, said):
    with pytest.raises(ConfigError, match=said):
        limits_of(encoder.model, encoder.tokenizer, **{"most": 8, "least": 3, "beams": 2} | options)


def test_a_model_without_a_decoder_writes_none():
    encoder = diptych.Encoder(models.build(pretrained.get("tiny")))
    with pytest.raises(ConfigError, match="writes no captions; CoCa's do, such as coca-vit-l-14"):
        encoder.caption(np.zeros((4, 4, 3), np.uint8))


def test_what_open_clip_has_not_is_refused():
    odd = CFG | {"vision_cfg": VISION | {"attentional_pool": "serial"}}
    with pytest.raises(CheckpointError, match="attentional_pool = 'serial' has no place"):
        from_json({"model_cfg": odd})
    blind = CFG | {"text_cfg": TEXT | {"no_causal_mask": True}}
    with pytest.raises(CheckpointError, match="embed_cls = True has no place"):
        from_json({"model_cfg": blind})
    config = pretrained.get("coca_ViT-B-32")
    wide = replace(config, decoder=replace(config.decoder, mlp_width=512))
    with pytest.raises(CheckpointError, match="perceptrons four times as wide"):
        to_json(wide)


def test_models_without_a_decoder_are_described_as_before():
    assert "decoder" not in to_dict(pretrained.get("vit-b-32"))
    described = to_dict(pretrained.get("coca_ViT-B-32"))
    assert described["decoder"]["type"] == "CocaDecoderConfig"


def test_training_leaves_the_decoder_as_it_is():
    config = ClipConfig(
        image=CocaImageConfig(
            image_size=8, patch_size=4, width=8, layers=1, heads=2, mlp_width=16, pool_heads=2
        ),
        text=CocaTextConfig(
            context_length=5, vocab_size=9, width=8, layers=1, heads=2, mlp_width=16
        ),
        decoder=CocaDecoderConfig(vocab_size=9, width=8, layers=1, heads=2, mlp_width=16),
        embed_dim=8,
    )
    model = models.build(config)
    Objective(model)
    assert not any(p.requires_grad for p in model.decoder.parameters())
    assert all(p.requires_grad for p in model.image.parameters())
