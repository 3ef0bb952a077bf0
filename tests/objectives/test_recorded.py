"""Each objective against what DeCLIP's own code gave: features, every loss, the gradient of every
parameter."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych.distributed import Peers
from diptych.families.declip.published import LocalQueue
from diptych.objectives import DeclipObjective
from diptych.objectives.late_interaction import late_interaction_reference
from diptych.objectives.self_supervision import nt_xent, simsiam
from tests import goldens
from tests.objectives import recorded

METHODS = ("clip", "clip_resnet", "slip", "declip", "filip", "defilip")
FILES = [
    path
    for path in goldens.files("declip/*.json")
    if goldens.read(path).get("config", {}).get("method") in METHODS
]
every = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
TERMS = {
    "clip_loss": "pairs",
    "simclr_loss": "views",
    "simsiam_loss": "views",
    "mlm_loss": "words",
    "nn_text_loss": "neighbours",
    "clip_dense_loss": "tokens",
    "filip_loss": "tokens",
    "clip_loss_(weight 0)": "pairs",
}
NOISE = ("linear1.bias", "linear2.bias", "linear3.bias")
"""Before a norm over the batch a bias has no gradient but rounding."""


def sections(record):
    """(BN over the batch?, what was recorded), the numerically stable one first."""
    for name, by_batch in (
        ("train_evalbn", False),
        ("eval", False),
        ("train_or_eval", True),
        ("train", True),
    ):
        if name in record and "grad_l2" in record[name]:
            yield by_batch, record[name]


@every
def test_losses_and_gradients_as_recorded(path):
    record = goldens.read(path)
    for by_batch, expected in sections(record):
        objective = recorded.objective(record)
        for module in objective.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not by_batch:
                module.eval()
        batch = recorded.batch(record)
        if by_batch:
            # Norms over four samples make a thousandth of float32's rounding: the equations are
            # compared without it.
            objective = objective.double()
            batch = replace(batch, images=tuple(image.double() for image in batch.images))
        losses = objective(batch, Peers())
        tolerance = 1e-4 if by_batch and "slip" in path.stem else 2e-5
        total = expected.get("total", expected.get("loss"))
        assert losses.total.item() == pytest.approx(total, abs=tolerance)
        for theirs, ours in TERMS.items():
            if theirs in expected and ours in losses.metrics:
                assert losses.metrics[ours].item() == pytest.approx(
                    expected[theirs], abs=tolerance
                ), theirs
        losses.total.backward()
        check_gradients(objective, record, expected["grad_l2"], by_batch)


def check_gradients(objective, record, norms, by_batch):
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    table = recorded.names(record["state_dict"])
    for ours, gradient in gradients.items():
        foreign = table.to_foreign({ours: gradient})
        for name, part in foreign.items():
            if norms.get(name) is None or (by_batch and name.endswith(NOISE)):
                continue
            rtol = 1e-3 if by_batch or "predictor_sim" in name else 2e-4
            assert part.norm().item() == pytest.approx(norms[name], rel=rtol, abs=1e-6), name
    assert len(gradients) > 20


@every
def test_features_as_recorded(path):
    record = goldens.read(path)
    objective = recorded.objective(record).eval()
    features = objective.features(recorded.batch(record))
    known = {
        **record,
        **record.get("features", {}),
        **next(iter(section for _, section in sections(record))),
    }
    pairs = {
        "image": "normalized_image_features",
        "text": "normalized_text_features",
        "image_1": "image_features_1",
        "image_2": "image_features_2",
    }
    compared = 0
    for ours, theirs in pairs.items():
        if ours in features and theirs in known:
            torch.testing.assert_close(
                features[ours], torch.tensor(known[theirs]), rtol=0, atol=1e-5
            )
            compared += 1
    for ours, theirs in (
        ("image", "image_features"),
        ("text", "text_features"),
        ("text_2", "text_features_aug"),
    ):
        if ours in features and theirs in known:
            vectors = nn.functional.normalize(torch.tensor(known[theirs]), dim=1)
            torch.testing.assert_close(features[ours], vectors, rtol=0, atol=1e-5)
            compared += 1
    assert compared


@pytest.mark.parametrize(
    "path", [p for p in FILES if "declip" in p.stem or "defilip" in p.stem], ids=lambda p: p.stem
)
def test_the_queue_as_recorded(path):
    record = goldens.read(path)
    objective = recorded.objective(record)
    assert isinstance(objective, DeclipObjective)
    features = objective.features(recorded.batch(record))
    rows = objective.queue.rows
    for text, theirs in (("text_1", "index_for_text"), ("text_2", "index_for_aug")):
        assert (features[text] @ rows.T).argmax(1).tolist() == record["nn"][theirs]
    carry = objective.loss(features, Peers()).carry
    objective.after_step(carry)
    assert int(objective.queue.place) == record["nn"]["bank_ptr_after"]
    keys = [key for key in record["nn"] if key.startswith("bank_columns")]
    written = torch.cat([torch.tensor(record["nn"][key]) for key in keys])
    torch.testing.assert_close(objective.queue.rows[: len(written)], written, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.stem.startswith("filip")], ids=lambda p: p.stem
)
def test_all_tokens_as_recorded(path):
    record = goldens.read(path)
    objective = recorded.objective(record)
    features = objective.features(recorded.batch(record))
    by_image = objective.tokens.logit_scale.exp() * late_interaction_reference(
        features["patches"], features["words"]
    )
    expected = record["variant_no_selection"]
    torch.testing.assert_close(
        by_image, torch.tensor(expected["dense_logits_per_image"]), rtol=0, atol=1e-5
    )


MISC = pytest.mark.parametrize(
    "path", goldens.files("declip/misc*.json"), ids=lambda path: path.stem
)


@MISC
def test_equations_as_recorded(path):
    import numpy as np

    expected = goldens.read(path)["losses"]
    draw = np.random.RandomState(3)
    p1, z1, p2, z2, zi, zj = (
        torch.from_numpy(draw.standard_normal(shape).astype(np.float32)) for shape in [(5, 7)] * 6
    )
    assert simsiam((p1, p2), (z1, z2)).item() == pytest.approx(
        expected["simsiam(p1,z1,p2,z2)"], abs=1e-6
    )
    key = "nt_xent_gather(zi,zi,zj,zj) T=0.1"
    assert nt_xent(zi, zj, 0.1).item() == pytest.approx(expected[key], abs=1e-5)
    assert nt_xent(zi, zj, 0.5).item() == pytest.approx(expected["nt_xent(zi,zj) T=0.5"], abs=1e-5)


@MISC
def test_the_bank_as_recorded(path):
    record = goldens.read(path)["memory_bank"]
    queue = LocalQueue(10, 6)
    queue.rows.copy_(recorded.bank(10, 6, seed=9))
    for number, step in enumerate(record["steps"]):
        texts = torch.from_numpy(goldens.normal(20 + number, (4, 6)))
        if all(math.isclose(row.norm(), 1, rel_tol=1e-3) for row in queue.rows):
            assert (texts @ queue.rows.T).argmax(1).tolist() == [
                pair[0] for pair in step["top2_indices"]
            ]
        queue.push(texts)
        assert int(queue.place) == step["ptr_after"]
        for column, source in zip(step["columns_written"], step["source_rows"]):
            assert torch.equal(queue.rows[column], texts[source])
