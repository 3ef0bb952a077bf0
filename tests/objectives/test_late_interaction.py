"""Tiles and Triton's programs give the plain equation's numbers and gradients."""

import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.objectives import late_interaction
from diptych.objectives.late_interaction import late_interaction_reference, token_similarity


def sets(rows, columns, q, k, width, masked, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    queries = torch.randn(rows, q, width, dtype=dtype, requires_grad=True)
    keys = torch.randn(columns, k, width, dtype=dtype, requires_grad=True)
    seen = {}
    if masked:
        seen = {
            "queries_seen": torch.rand(rows, q) > 0.4,
            "keys_seen": torch.rand(columns, k) > 0.4,
        }
        for mask in seen.values():
            mask[:, 0] = True
    return queries, keys, seen


def with_gradients(function, queries, keys, **options):
    similarity = function(queries, keys, **options)
    torch.manual_seed(7)
    weights = torch.randn(similarity.shape, dtype=similarity.dtype, device=similarity.device)
    return similarity.detach(), *torch.autograd.grad(similarity, (queries, keys), weights)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.tuples(*[st.integers(1, 9)] * 5),
    masked=st.booleans(),
    tile=st.integers(1, 600),
    kept=st.sampled_from([0, late_interaction.KEPT]),
)
def test_tiles_give_the_equation(counts, masked, tile, kept):
    assert_equal_to_the_equation(counts, masked, tile, kept)


@pytest.mark.parametrize("kept", [0, late_interaction.KEPT])
@pytest.mark.parametrize("counts", [(2, 3, 2, 300, 3), (70, 150, 3, 2, 5)])
def test_more_keys_than_a_byte_counts_and_more_columns_than_a_tile(counts, kept):
    assert_equal_to_the_equation(counts, True, late_interaction.TILE, kept)


def assert_equal_to_the_equation(counts, masked, tile, kept):
    queries, keys, seen = sets(*counts, masked)
    plain = with_gradients(late_interaction_reference, queries, keys, **seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late_interaction, "KEPT", kept)
        tiled = with_gradients(token_similarity, queries, keys, **seen, tile=tile)
    for ours, reference in zip(tiled, plain, strict=True):
        torch.testing.assert_close(ours, reference)


def test_worked_by_hand():
    """One image of two patches, one text of two words of which the second is padding."""
    patches, words = (
        torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]),
        torch.tensor([[[0.6, 0.8], [1.0, 0.0]]]),
    )
    first = torch.tensor([[True, False]])
    assert token_similarity(patches, words).item() == pytest.approx((1.0 + 0.8) / 2)
    assert token_similarity(patches, words, keys_seen=first).item() == pytest.approx(
        (0.6 + 0.8) / 2
    )
    assert token_similarity(words, patches, queries_seen=first).item() == pytest.approx(0.8)


def test_half_precision_is_compared_in_float32():
    queries, keys, _ = sets(3, 3, 4, 4, 8, False, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        similarity = token_similarity(queries.bfloat16(), keys)
    assert similarity.dtype == torch.float32
    torch.testing.assert_close(
        similarity, late_interaction_reference(queries.bfloat16().float(), keys)
    )


def test_equal_keys_share_no_gradient_twice():
    queries, keys = torch.ones(1, 1, 2), torch.ones(1, 3, 2, requires_grad=True)
    token_similarity(queries, keys).sum().backward()
    assert keys.grad is not None
    assert keys.grad.sum() == 2


@pytest.mark.parametrize("kept", [0, late_interaction.KEPT])
def test_the_products_are_never_held_together(kept, monkeypatch):
    monkeypatch.setattr(late_interaction, "KEPT", kept)
    queries, keys, _ = sets(48, 48, 10, 10, 4, False, dtype=torch.float32)
    whole = 48 * 48 * 10 * 10
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                largest.append(made.untyped_storage().nbytes())
            return made

    with Watch():
        with_gradients(token_similarity, queries, keys, tile=5000)
    assert max(largest) <= (48 * 48 * 10 if kept else 4 * 5000) <= 4 * whole / 40


INTERPRETED = """
import torch
from diptych.objectives import late_interaction as late
from diptych.objectives import late_interaction_triton as late_triton
from tests.objectives.test_late_interaction import sets, with_gradients

def interpreted(queries, keys, queries_seen=None, keys_seen=None):
    hidden = None
    if keys_seen is not None:
        hidden = torch.zeros(keys_seen.shape).masked_fill(~keys_seen, -torch.inf)
    shares = late._shares(queries, queries_seen)
    return late_triton.TokenSimilarity.apply(queries, keys, shares, hidden)

# Widths of one slice, of several, and beyond what a program of the gradients has.
sizes = ((3, 4, 5, 6, 8), (2, 3, 17, 20, 40), (1, 2, 70, 3, 270))
for masked, counts in [(False, sizes[0]), *[(True, each) for each in sizes[1:]]]:
    queries, keys, seen = sets(*counts, masked, dtype=torch.float32)
    reference = with_gradients(late.late_interaction_reference, queries, keys, **seen)
    found = with_gradients(interpreted, queries, keys, **seen)
    for ours, theirs in zip(found, reference, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
"""


def test_the_programs_for_gpus_in_tritons_interpreter():
    """In a process of its own: the interpreter is chosen when Triton is imported."""
    apart(INTERPRETED, TRITON_INTERPRET="1")


# Stands in for a GPU: Triton compiles for an H100 without one.
COMPILED = """
import json, re, subprocess, sys, tempfile
import torch, triton
from triton.backends.compiler import GPUTarget
from diptych.objectives import late_interaction_triton as late_triton

class Absent:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

triton.runtime.driver.set_active(Absent())
found = []
for q, k, width in json.loads(sys.argv[1]):
    for program in late_triton.compiled(torch.empty(2, q, width), torch.empty(3, k, width)):
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(program.asm["cubin"])
            file.flush()
            command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
            usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spilled = int(re.search(r"STACK:(\\d+)", usage)[1])
        found.append((program.metadata.shared, spilled, "wgmma" in program.asm["ptx"]))
print(json.dumps(found))
"""
H100 = 227 << 10
"""Bytes of shared memory that a program can have."""


WORDS_AGAINST_PATCHES = (77, 16, 256)
"""With FILIP's defaults: 16 of them stand for a picture."""
ALL_OF_BOTH = (49, 77, 256)
OTHERS = [
    ALL_OF_BOTH,
    (49, 32, 256),
    (49, 16, 256),
    (77, 49, 256),
    (128, 128, 256),
    (128, 128, 1024),
]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[WORDS_AGAINST_PATCHES], OTHERS], ids=["common", "others"])
def test_the_programs_fit_an_h100(sizes, tmp_path):
    """As compiled for one: shared memory, what spills from a thread's registers, matrix units."""
    found = json.loads(apart(COMPILED, json.dumps(sizes), TRITON_CACHE_DIR=str(tmp_path)))
    assert len(found) == 3 * len(sizes)
    for shared, spilled, on_matrix_units in found:
        assert 0 < shared <= H100
        assert spilled <= 1024
        assert on_matrix_units


def apart(code, *arguments, **environment):
    """What a script prints in a process of its own."""
    pytest.importorskip("triton", reason="torch's CPU builds come without Triton")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(49, 32, 256), (77, 16, 256), (49, 77, 256), (130, 9, 64)])
def test_the_programs_on_a_gpu(masked, sizes):
    queries, keys, seen = sets(64, 96, *sizes, masked, dtype=torch.float32)
    reference = with_gradients(late_interaction_reference, queries, keys, **seen)
    queries, keys = (x.detach().cuda().requires_grad_() for x in (queries, keys))
    seen = {name: mask.cuda() for name, mask in seen.items()}
    for ours, theirs in zip(
        with_gradients(token_similarity, queries, keys, **seen), reference, strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)
