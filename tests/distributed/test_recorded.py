"""Two processes give what DeCLIP's own code gave on two: each one's losses, and the gradients of
every parameter."""

from dataclasses import replace

import pytest
import torch

from diptych.distributed import data_parallel
from diptych.nn.norm import batch_norms
from tests import goldens
from tests.distributed.harness import run_processes
from tests.objectives import recorded

FILES = goldens.files("declip/world2*.json")
TERMS = {
    "loss_before_div": "pairs",
    "clip_loss": "pairs",
    "simclr_loss": "views",
    "clip_dense_loss": "tokens",
    "nn_text_loss": "neighbours",
    "simsiam_loss": "views",
    "mlm_loss": "words",
    "total": "loss",
}


def cases(path):
    """What was recorded on each process, and the single-process file with weights and inputs."""
    world = goldens.read(path)
    return {
        name: (both, goldens.read(goldens.beside(path, "world2", name.split("_")[0])))
        for name, both in world.items()
        if name != "note"
    }


def own_batch(record, mine, rank):
    """This process's half of the recorded inputs, with the words that it hid."""
    whole = recorded.batch(record)
    half = len(whole) // 2
    batch = whole.rows(rank * half, (rank + 1) * half)
    if "masked_token_ids" in mine:
        batch = replace(batch, texts=(torch.tensor(mine["masked_token_ids"]), *batch.texts[1:]))
    return (
        replace(batch, mlm_labels=torch.tensor(mine["mlm_labels"]))
        if "mlm_labels" in mine
        else batch
    )


def step(peers, path):
    """Of each case: losses, gradients by published name, and the queue's place."""
    found = {}
    for name, (both, record) in cases(path).items():
        objective = recorded.objective(record)
        objective.model.image.freeze_patches()
        for norm in batch_norms(objective):
            norm.eval()
        batch = own_batch(record, both[f"rank{peers.rank}"], peers.rank)
        wrapped = data_parallel(objective, peers)
        losses = wrapped(batch, peers)
        losses.total.backward()
        objective.before_step()
        objective.after_step(losses.carry)
        gradients = {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}
        foreign = recorded.names(record["state_dict"]).to_foreign(gradients)
        norms = {key: part.norm().item() for key, part in foreign.items()}
        terms = {key: value.item() for key, value in losses.metrics.items()}
        found[name] = terms, norms, int(objective.state_dict().get("queue.place", torch.tensor(0)))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_two_processes_as_recorded(path):
    ranks = run_processes(2, step, path)
    for name, (both, _) in cases(path).items():
        for rank, found in enumerate(ranks):
            terms, norms, place = found[name]
            mine = both[f"rank{rank}"]
            for theirs, ours in TERMS.items():
                if theirs in mine:
                    found_term = terms[ours if ours in terms else "loss"]
                    assert found_term == pytest.approx(mine[theirs], abs=1e-5), (name, rank, theirs)
            if "clip_losses" in mine:
                assert terms["pairs"] == pytest.approx(sum(mine["clip_losses"]) / 4, abs=1e-5)
            assert place == mine.get("bank_ptr_after", 0)
            check_gradients(name, norms, both["summed_grad_l2"])


def check_gradients(name, found, recorded_norms):
    compared = [key for key, norm in recorded_norms.items() if norm is not None and key in found]
    assert len(compared) > 50
    assert not found.keys() - recorded_norms.keys()
    for key in compared:
        relative = 1e-3 if key.startswith("predictor_sim") else 2e-4
        assert found[key] == pytest.approx(recorded_norms[key], rel=relative, abs=1e-6), (name, key)
