"""DeepSpeed's folders, made by hand as DeepSpeed lays them out (checked against checkpoints of
version 0.19)."""

import collections
import math

import pytest
import torch

from diptych.checkpoints import detect, load_model
from diptych.errors import CheckpointError
from diptych.families.clip.layouts.open_clip import export_table
from diptych.weights.deepspeed import is_share, read_shares, weight_file
from diptych.weights.read import read_weights

STATES, OPTIMIZER = (
    "zero_pp_rank_{}_mp_rank_00_model_states.pt",
    "zero_pp_rank_{}_mp_rank_00_optim_states.pt",
)


def shares(tensor, processes):
    """A tensor's equal parts; DeepSpeed pads with whatever is there."""
    size = math.ceil(tensor.numel() / processes)
    padded = torch.cat(
        [tensor.flatten(), torch.full((processes * size - tensor.numel(),), torch.nan)]
    )
    return padded.to(tensor.dtype).split(size) if size else [tensor.flatten()] * processes


def zero_3(root, groups, processes, frozen=None, buffers=None, shared=None, prefix="", cut=None):
    """Writes `groups` (a dictionary of parameters for each of the optimiser's groups) as ZeRO 3
    does."""
    frozen, buffers = frozen or {}, buffers or {}
    folder = root / "global_step7"
    folder.mkdir(parents=True)
    (root / "latest").write_text("global_step7")
    names = [name for group in groups for name in group] + list(frozen)
    for process in range(processes):
        told = {
            "module": collections.OrderedDict(
                {n: torch.zeros(0, dtype=torch.bfloat16) for n in names} | buffers
            ),
            "buffer_names": list(buffers),
            "optimizer": None,
            "param_shapes": [
                collections.OrderedDict((n, t.shape) for n, t in group.items()) for group in groups
            ],
            "frozen_param_shapes": {name: t.shape for name, t in frozen.items()} or None,
            "frozen_param_fragments": {
                n: shares(t, processes)[process].clone() for n, t in frozen.items()
            }
            or None,
            "shared_params": shared or {},
            "dp_world_size": processes,
            "ds_version": "0.19.8",
        }
        torch.save(told, folder / STATES.format(process))
        flat = [
            torch.cat([shares(t.float(), processes)[process] for t in group.values()])
            for group in groups
        ]
        flat = flat if cut is None else torch.cat(flat).split(cut)
        optimizer = {"zero_stage": 3, "partition_count": processes, "fp32_flat_groups": list(flat)}
        torch.save(
            {"optimizer_state_dict": optimizer}, folder / (prefix + OPTIMIZER.format(process))
        )
    return folder


GROUPS = [
    {"a.weight": torch.randn(5, 7), "b.weight": torch.randn(3, 7), "one": torch.randn(1)},
    {"a.bias": torch.randn(7), "scale": torch.tensor(2.5)},
]
ALL = GROUPS[0] | GROUPS[1]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("cut", [None, 4])
def test_shares_become_whole(tmp_path, processes, cut):
    """Also where a parameter's share goes over the end of a flat tensor."""
    frozen = {"f.weight": torch.randn(3, 3).bfloat16(), "f.bias": torch.randn(3).bfloat16()}
    buffers = {"bn.running_mean": torch.randn(7), "bn.num_batches_tracked": torch.tensor(4)}
    folder = zero_3(
        tmp_path, GROUPS, processes, frozen, buffers, shared={"tied.weight": "b.weight"}, cut=cut
    )
    state = read_shares(folder / STATES.format(0))
    expected = ALL | frozen | buffers | {"tied.weight": ALL["b.weight"]}
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert state.shapes[name].shape == state[name].shape == tensor.shape
        assert torch.equal(state[name], tensor)


def test_wrapped_names_and_the_prefix_of_bfloat16(tmp_path):
    groups = [{f"module.{name}": tensor for name, tensor in ALL.items()}]
    folder = zero_3(tmp_path, groups, 2, prefix="bf16_")
    state = read_weights(folder / STATES.format(1)).tensors  # any process's file means them all
    assert all(torch.equal(state[name], tensor) for name, tensor in ALL.items())


def test_a_folder_is_a_model(tmp_path, random_model, vit):
    model = random_model(vit)
    weights = export_table(vit).to_foreign(model.state_dict())
    folder = zero_3(tmp_path / "zero_3", [weights], processes=3)
    (tmp_path / "zero_1" / "step").mkdir(parents=True)
    (tmp_path / "zero_1" / "latest").write_text("step\n")
    torch.save(
        {"module": weights, "ds_version": "0.19.8"},
        tmp_path / "zero_1" / "step" / "mp_rank_00_model_states.pt",
    )
    for path in (tmp_path / "zero_3", folder, tmp_path / "zero_1", tmp_path / "zero_1" / "step"):
        assert detect(path) == "open-clip"
        loaded, meta = load_model(path, config=vit)
        assert meta.provenance["source"] == path.name
        state = loaded.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", [OPTIMIZER.format(0), OPTIMIZER.format(1), STATES.format(1)])
def test_a_missing_file_is_named(tmp_path, name):
    folder = zero_3(tmp_path, GROUPS, 2, frozen={"f": torch.randn(3)})
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {name}; copy the files of all processes"):
        dict(read_shares(folder / STATES.format(0)))


def test_files_of_other_runs_do_not_fit(tmp_path):
    folder = zero_3(tmp_path / "here", GROUPS, 2)
    other = zero_3(tmp_path / "there", GROUPS[:1], 2)
    (other / OPTIMIZER.format(1)).replace(folder / OPTIMIZER.format(1))
    with pytest.raises(
        CheckpointError, match=r"process 1 holds \d+ numbers where its share is \d+"
    ):
        read_shares(folder / STATES.format(0))


def test_what_is_no_checkpoint_of_deepspeed(tmp_path):
    folder = zero_3(tmp_path, GROUPS, 1)
    torch.save({"module": ALL}, folder / STATES.format(0))
    with pytest.raises(CheckpointError, match="is not laid out as DeepSpeed's ZeRO 3"):
        read_shares(folder / STATES.format(0))
    assert weight_file(tmp_path / "absent") is None
    assert not is_share(tmp_path / "mp_rank_00_model_states.pt")


def test_latest_leads_nowhere(tmp_path):
    (tmp_path / "latest").write_text("../global_step9")
    with pytest.raises(CheckpointError, match="names global_step9, which is missing"):
        load_model(tmp_path)


def test_slices_of_matrices_are_refused(tmp_path):
    for rank in (0, 1):
        torch.save({"module": ALL}, tmp_path / f"mp_rank_0{rank}_model_states.pt")
    with pytest.raises(CheckpointError, match="tensor parallelism"):
        load_model(tmp_path)
