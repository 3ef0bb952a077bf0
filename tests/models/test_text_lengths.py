"""Captions whose lengths are known: the same numbers and gradients, of less work."""

from dataclasses import replace

import pytest
import torch

from diptych.batch import TextLengths
from diptych.config import ClipConfig
from diptych.families.clip import TextConfig, VitConfig
from diptych.families.siglip import SiglipTextConfig
from diptych.models import TowerOutput, build
from tests.forked import Script

ROWS, CONTEXT, END = 37, 77, 999
CONFIG = ClipConfig(
    image=VitConfig(image_size=8, patch_size=4, width=16, layers=1, heads=2, mlp_width=32),
    text=TextConfig(
        context_length=CONTEXT, vocab_size=1000, width=32, layers=3, heads=4, mlp_width=64
    ),
    embed_dim=24,
)


def captions(padding):
    """Rows of every length, and their lengths."""
    torch.manual_seed(1)
    lengths = torch.randint(2, CONTEXT + 1, (ROWS,))
    lengths[3], lengths[5] = CONTEXT, 2
    ids = torch.randint(1, END, (ROWS, CONTEXT))
    ids[torch.arange(ROWS), lengths - 1] = END
    behind = torch.arange(CONTEXT) >= lengths[:, None]
    # Padding may be the end of text again, as open_clip has it for some, or anything else.
    return ids.masked_fill(behind, padding), TextLengths.of(lengths.tolist()), ~behind


def read(model, kind, ids, real, lengths):
    """The output, and all gradients of a sum that weighs each real number of it."""
    model.zero_grad()
    output = model.read_text(ids, kind, lengths)
    torch.manual_seed(2)
    tokens = output.tokens
    if kind != "none":
        assert tokens.shape == (ROWS, CONTEXT, 32)
        tokens = tokens[real]
    output = TowerOutput(tokens, output.feature, output.pooled)
    sum((torch.randn_like(x) * x).sum() for x in output).backward()
    return output, {name: p.grad for name, p in model.text.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["none", "raw", "normed"])
@pytest.mark.parametrize("padding", [0, END])
def test_known_lengths_change_no_number(padding, kind, checkpointing):
    torch.manual_seed(0)
    model = build(CONFIG, dtype=torch.float64)
    model.text.set_checkpointing(checkpointing)
    ids, lengths, real = captions(padding)
    computed = []
    model.text.blocks[0].register_forward_hook(lambda block, given, out: computed.append(given[0]))
    expected = read(model, kind, ids, real, None)
    found = read(model, kind, ids, real, lengths)
    assert len(computed[-1]) < 0.7 * len(computed[0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    in_single = model.float().encode_text(ids, normalize=True)
    assert (model.encode_text(ids, True, lengths) - in_single).abs().max() <= 1e-6


def test_a_tower_that_sees_its_padding_is_given_all_of_it():
    torch.manual_seed(0)
    text = SiglipTextConfig(
        context_length=16, vocab_size=100, width=16, layers=2, heads=2, mlp_width=32
    )
    model = build(replace(CONFIG, text=text))
    ids = torch.randint(1, 100, (4, 16))
    ids[:, 3:] = 1
    lengths = TextLengths.of([3] * 4)
    assert model.encode_text(ids, lengths=lengths).equal(model.text(ids, "none").pooled)


COMPILE = """
from torch._dynamo.testing import CompileCounter
from tests.models.test_text_lengths import CONFIG, captions
from diptych.models import build

model, counter = build(CONFIG), CompileCounter()
for block in model.text.blocks:
    block.compile(backend=counter, fullgraph=True, dynamic=True)
ids, lengths, _ = captions(0)
for start, stop in ((0, 37), (10, 37), (5, 30), (0, 11)):
    part = lengths.rows(start, stop)
    model.encode_text(ids[start:stop, : max(part.host)], lengths=part).sum().backward()
print(counter.frame_count)
"""


def test_captions_of_any_lengths_are_one_graph_a_kind_of_block():
    """In a process of its own: the shape checks of these tests can't be compiled."""
    code, said, errors = Script(COMPILE).end()
    assert code == 0, errors
    # Of the last block only the token that is read is computed: it is another kind.
    assert int(said) == 2


def test_micro_batches_know_their_own():
    lengths = TextLengths.of([4, 9, 2])
    assert lengths.rows(1, 3).host == (9, 2)
    assert lengths.rows(1, 3).device.tolist() == [9, 2]
