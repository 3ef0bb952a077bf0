"""Attention and the block against torch's own, and one token read alone against all tokens."""

import pytest
import torch
from torch import nn

from diptych.nn import Attention, Block


def twin(attention: Attention) -> nn.MultiheadAttention:
    other = nn.MultiheadAttention(attention.out.in_features, attention.heads, batch_first=True)
    other.in_proj_weight, other.in_proj_bias = attention.qkv.weight, attention.qkv.bias
    other.out_proj.weight, other.out_proj.bias = attention.out.weight, attention.out.bias
    return other


@pytest.mark.parametrize("causal", [False, True])
def test_equals_torchs_multihead_attention(causal):
    torch.manual_seed(0)
    attention, x = Attention(width=24, heads=3), torch.randn(2, 7, 24)
    mask = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    expected, _ = twin(attention)(x, x, x, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(attention(x, causal=causal), expected)


def test_one_token_alone_equals_it_among_all():
    torch.manual_seed(0)
    block = Block(width=24, heads=3, mlp_width=48, activation="quick_gelu", eps=1e-5)
    x, at = torch.randn(3, 7, 24), torch.tensor([2, 0, 6])
    first = block(x, pick=(slice(None), 0))
    torch.testing.assert_close(first, block(x)[:, 0])
    pick = (torch.arange(3), at)
    last = block(x, pick=pick, seen=torch.arange(7) <= at[:, None])
    torch.testing.assert_close(last, block(x, causal=True)[pick])
    assert not torch.allclose(last, block(x)[pick])


def test_one_token_alone_has_the_same_gradient():
    torch.manual_seed(0)
    block = Block(width=24, heads=3, mlp_width=48, activation="gelu", eps=1e-5)
    x = torch.randn(3, 7, 24)
    block(x)[:, 0].square().sum().backward()
    expected = {name: p.grad.clone() for name, p in block.named_parameters()}
    block.zero_grad()
    block(x, pick=(slice(None), 0)).square().sum().backward()
    for name, parameter in block.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name, rtol=1e-4, atol=1e-5)


def test_no_copy_between_the_products():
    """What the kernel reads are views of the one product, and what it gives needs no copy to be
    flattened."""
    attention = Attention(width=16, heads=2)
    with torch.profiler.profile() as profile, torch.no_grad():
        attention(torch.randn(2, 5, 16))
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts.get("aten::clone", 0) == counts.get("aten::contiguous", 0) == 0
