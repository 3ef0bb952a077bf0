"""Losses beside open_clip's, value and gradients, on one process and on two."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diptych import compat
from diptych.compat import loss as ours
from diptych.compat.model_traits import CLIP_TRAITS, COCA_TRAITS
from diptych.errors import ConfigError, UnknownNameError
from tests.distributed.harness import run_processes

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip isn't installed", allow_module_level=True)
EACH = 5
CPU = torch.device("cpu")
MODES = [(local, grad) for local in (False, True) for grad in (False, True)]


def rows(count: int, rank: int) -> list[torch.Tensor]:
    """Unit rows of pictures, texts and a teacher's, of one process."""
    torch.manual_seed(7)
    widths = (4, 4, 6, 6)
    found = [F.normalize(torch.randn(count * EACH, width).double(), dim=1) for width in widths]
    return [each[rank * EACH : (rank + 1) * EACH] for each in found]


def peer() -> ModuleType:
    """open_clip's losses, without the seconds that importing all of it takes in each process."""
    [folder] = importlib.util.find_spec("open_clip").submodule_search_locations
    spec = importlib.util.spec_from_file_location("peers_loss", Path(folder) / "loss.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gradients(values, leaves) -> list[torch.Tensor]:
    values = values if isinstance(values, tuple) else (values,)
    sum(value * weight for value, weight in zip(values, (1.0, 0.7))).backward()
    return [*(value.detach() for value in values), *(leaf.grad for leaf in leaves)]


def captioned(loss, leaves, _):
    """Logits are made of the pictures, and 0 among the labels is padding."""
    generator = torch.Generator().manual_seed(loss.rank)
    head = torch.randn(4, 11, generator=generator).double()
    logits = (leaves[0] @ head)[:, None].expand(-1, 6, -1)
    labels = torch.randint(0, 11, (EACH, 6), generator=generator)
    contrastive, captions = loss(*leaves[:2], logits, labels, leaves[2])
    return contrastive, captions + 0 * leaves[3]


def contrasted(loss, leaves, _):
    return loss(*leaves)


def distilled(loss, leaves, teacher):
    found = loss(*leaves[:3], *teacher, torch.tensor(5.0))
    return tuple(each + 0 * leaves[3] for each in found)


def changed(module: ModuleType, loss: str, method: str) -> type[nn.Module]:
    """A subclass as scripts write them: with one method of its own, on top of the inherited one."""
    inherited = getattr(getattr(module, loss), method)

    def softened(self, *given, **named):
        found = inherited(self, *given, **named)
        return tuple(each * 0.9 for each in found) if isinstance(found, tuple) else found * 0.9

    def shifted(self, device, num_logits):
        return inherited(self, device, num_logits).flip(0)

    moved = shifted if (loss, method) == ("ClipLoss", "get_ground_truth") else softened
    return type("Changed", (getattr(module, loss),), {method: moved})


CHANGED = [
    ("ClipLoss", "get_logits"),
    ("ClipLoss", "get_ground_truth"),
    ("DistillClipLoss", "get_logits"),
    ("DistillClipLoss", "dist_loss"),
]
CHANGED_SIGMOIDS = [
    ("SigLipLoss", "get_logits"),
    ("SigLipLoss", "get_ground_truth"),
    ("SigLipLoss", "_loss"),
]


def compared(rank: int, size: int) -> list[tuple[str, list[torch.Tensor], list[torch.Tensor]]]:
    """Of each loss in each mode: its name, our numbers and open_clip's, features before scales."""
    theirs, found = peer(), []
    place = {"rank": rank, "world_size": size}

    def compare(name, made, call):
        numbers = []
        for loss in made:
            images, texts, *teacher = (each.clone() for each in rows(size, rank))
            leaves = [images, texts, torch.tensor(9.0).double(), torch.tensor(-2.0).double()]
            for leaf in leaves:
                leaf.requires_grad_()
            numbers.append(gradients(call(loss, leaves, teacher), leaves))
        found.append((name, *numbers))

    for local, grad in MODES:
        mode = {"local_loss": local, "gather_with_grad": grad, **place}
        made = [module.ClipLoss(**mode) for module in (ours, theirs)]
        compare(f"clip {mode}", made, contrasted)
        made = [module.CoCaLoss(2.0, 0.5, **mode) for module in (ours, theirs)]
        compare(f"coca {mode}", made, captioned)
        made = [module.DistillClipLoss(**mode) for module in (ours, theirs)]
        compare(f"distill {mode}", made, distilled)
        for loss, method in CHANGED:
            made = [changed(module, loss, method)(**mode) for module in (ours, theirs)]
            call = contrasted if loss == "ClipLoss" else distilled
            compare(f"{loss} with another {method}, {mode}", made, call)
    for loss, method in CHANGED_SIGMOIDS:
        made = [changed(module, loss, method)(**place) for module in (ours, theirs)]
        compare(f"{loss} with another {method}", made, contrasted)
    for exchange in ("bidir", "shift", "reduce", "gather"):
        made = [module.SigLipLoss(**place, dist_impl=exchange) for module in (ours, theirs)]
        compare(f"siglip {exchange}", made, contrasted)
    return found


def shares(peers):
    return compared(peers.rank, peers.size)


def test_one_process_has_open_clips_values_and_gradients():
    for name, mine, theirs in compared(0, 1):
        for got, expected in zip(mine, theirs, strict=True):
            torch.testing.assert_close(got, expected, msg=lambda text, name=name: f"{name}: {text}")


def test_two_processes_have_open_clips_values_and_gradients():
    """Of scale and bias averaged, as DDP does."""
    for (name, *first), (_, *second) in zip(*run_processes(2, shares), strict=True):
        for mine, theirs in (first, second):
            for got, expected in zip(mine[:-2], theirs[:-2], strict=True):
                torch.testing.assert_close(got, expected, msg=lambda text, n=name: f"{n}: {text}")
        (mine, theirs), (mine_there, theirs_there) = first, second
        for place in (-2, -1):
            got, expected = mine[place] + mine_there[place], theirs[place] + theirs_there[place]
            torch.testing.assert_close(got, expected, msg=lambda text, n=name: f"{n}: {text}")


def test_captions_beside_open_clips():
    CoCaLoss = peer().CoCaLoss
    images, texts = rows(1, 0)[:2]
    logits = torch.randn(EACH, 6, 11).double()
    labels = torch.randint(0, 11, (EACH, 6))  # 0 is padding
    for weights in ((2.0, 1.0), (2.0, 0.0)):
        given = (images, texts, logits, labels, torch.tensor(9.0))
        found, expected = ours.CoCaLoss(*weights)(*given), CoCaLoss(*weights)(*given)
        for got, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wanted, check_dtype=False)
        said = ours.CoCaLoss(*weights)(*given, output_dict=True)
        assert list(said) == list(CoCaLoss(*weights)(*given, output_dict=True))


def test_the_loss_that_arguments_ask_for():
    args = Namespace(model="ViT-B-32", distill=False, siglip=False, rank=0, world_size=1)
    assert type(compat.create_loss(args)) is ours.ClipLoss
    args.siglip, args.loss_dist_impl = True, "gather"
    assert type(compat.create_loss(args)) is ours.SigLipLoss
    args.model, args.coca_caption_loss_weight = "coca_ViT-B-32", 3.0
    args.coca_contrastive_loss_weight = 0.5
    loss = compat.create_loss(args)
    assert (loss.caption_loss_weight, loss.clip_loss_weight) == (3.0, 0.5)
    args.distill, args.local_loss = True, True
    loss = compat.create_loss(args)
    assert type(loss) is ours.DistillClipLoss
    assert loss.local_loss


def test_a_model_says_its_loss_whatever_arguments_call_it():
    args = Namespace(model="hf-hub:me/mine", coca_caption_loss_weight=3.0, siglip=True)
    args.coca_contrastive_loss_weight = 0.5
    model = nn.Module()
    model.traits, model.pad_id = COCA_TRAITS, 7
    loss = compat.create_loss(args, model=Namespace(_orig_mod=model))
    assert (type(loss), loss.pad_id, loss.caption_loss_weight) == (ours.CoCaLoss, 7, 3.0)
    model.traits = CLIP_TRAITS
    assert type(compat.create_loss(args, model=model)) is ours.SigLipLoss


def test_parts_of_the_sigmoid_loss_are_open_clips():
    images, texts = rows(1, 0)[:2]
    pair = ours.SigLipLoss(), peer().SigLipLoss()
    for bias in (None, torch.tensor(-3.0)):
        logits = [loss.get_logits(images, texts, 9.0, bias) for loss in pair]
        torch.testing.assert_close(*logits)
    for negative in (False, True):
        made = [loss.get_ground_truth(CPU, torch.float32, EACH, negative) for loss in pair]
        assert torch.equal(*made)


def test_logits_labels_and_names_of_what_is_returned():
    images, texts, *teacher = rows(1, 0)
    by_image, by_text = ours.ClipLoss().get_logits(images, texts, 3.0, torch.tensor(-1.0))
    torch.testing.assert_close(by_image, 3 * images @ texts.T - 1)
    torch.testing.assert_close(by_text, by_image.T)
    assert ours.ClipLoss(rank=1, world_size=2, local_loss=True).get_ground_truth(
        torch.device("cpu"), 3
    ).tolist() == [3, 4, 5]
    assert list(ours.ClipLoss()(images, texts, 3.0, output_dict=True)) == ["contrastive_loss"]
    names = ours.DistillClipLoss()(images, texts, 3.0, *teacher, 3.0, output_dict=True)
    assert list(names) == ["contrastive_loss", "distill_loss"]
    theirs = peer().DistillClipLoss().dist_loss(by_image, by_text)
    torch.testing.assert_close(ours.DistillClipLoss().dist_loss(by_image, by_text), theirs)
    smoothed = ours.ClipLoss(smoothing=0.1)(images, texts, 3.0)
    rows_and_columns = [
        F.cross_entropy(logits, torch.arange(EACH), label_smoothing=0.1)
        for logits in (3 * images @ texts.T, 3 * texts @ images.T)
    ]
    torch.testing.assert_close(smoothed, sum(rows_and_columns) / 2)


def test_logits_of_one_process_have_both_sides_gradients():
    found = []
    for losses in ours, peer():
        images, texts = (each.requires_grad_() for each in rows(1, 0)[:2])
        by_image, _ = losses.ClipLoss(local_loss=True).get_logits(images, texts, 3.0)
        by_image.square().sum().backward()
        found.append((images.grad, texts.grad))
    torch.testing.assert_close(*found)


def test_a_loss_by_its_name():
    for name, kind in (("clip", ours.ClipLoss), ("distill_clip", ours.DistillClipLoss)):
        assert type(compat.create_loss(name, local_loss=True)) is kind
    made = compat.create_loss("siglip", chunk_size=4, rank=1, world_size=2)
    assert (type(made), made.chunk_size, made.rank) == (ours.SigLipLoss, 4, 1)
    made = compat.create_loss("coca", pad_id=None, z_loss_weight=0.1)
    assert (made.caption_loss_weight, made.clip_loss_weight, made.pad_id) == (2.0, 1.0, None)
    for name, options, message in (
        ("mammut", {}, "Unknown loss_type 'mammut'"),
        (None, {}, "Unknown loss_type None"),
        ("coca", {}, "explicit pad_id"),
        ("siglip", {"local_loss": True}, "local_loss=True is no option of the loss 'siglip'"),
        ("genlip", {"rank": 1}, "rank=1 is no option"),
    ):
        with pytest.raises(ConfigError, match=message):
            compat.create_loss(name, **options)


def test_a_z_loss_is_the_square_of_the_normaliser_of_tokens_that_count():
    logits = torch.randn(2, 3, 5).double()
    labels = torch.tensor([[1, 4, 2], [4, 4, 0]])
    counted = labels != 4
    ce = F.cross_entropy(logits[counted], labels[counted])
    z = logits[counted].logsumexp(-1).square().mean()
    found = ours.GenLipLoss(ignore_index=4, z_loss_weight=0.3)(logits, labels)
    torch.testing.assert_close(found, ce + 0.3 * z)
    images, texts = (each[:2] for each in rows(1, 0)[:2])
    given = (images, texts, logits, labels, torch.tensor(9.0))
    captions = ours.CoCaLoss(2.0, 0.0, pad_id=4, z_loss_weight=0.3)(*given)[1]
    torch.testing.assert_close(captions, 2 * ce + 0.3 * z)
    masked = (images, texts, logits, labels.masked_fill(~counted, -100), torch.tensor(9.0))
    torch.testing.assert_close(ours.CoCaLoss(1.0, 0.0, pad_id=None)(*masked)[1], ce)
    nothing = ours.GenLipLoss(ignore_index=4)(logits, torch.full((2, 3), 4))
    assert nothing.item() == 0
    half = ours.GenLipLoss(ignore_index=4)(logits.bfloat16(), labels)
    assert half.dtype == torch.float32
    assert ours.GenLipLoss(4, compute_dtype="model")(logits.bfloat16(), labels) != half
    for options, message in (
        ({"z_loss_weight": -1.0}, "0 or more"),
        ({"compute_dtype": "x"}, "fp32"),
    ):
        with pytest.raises(ConfigError, match=message):
            ours.GenLipLoss(**options)


def _ring(peers):
    """Of three processes: what comes from the neighbours, and the gradients of what was sent."""
    left, right = (peers.rank - 1) % 3, (peers.rank + 1) % 3
    own = torch.full((2,), float(peers.rank), requires_grad=True)
    came = ours.neighbour_exchange_with_grad(left, right, own)
    (came * (peers.rank + 1)).sum().backward()
    to_left = torch.full((1,), 10.0 * peers.rank, requires_grad=True)
    to_right = torch.full((1,), 100.0 * peers.rank, requires_grad=True)
    from_right, from_left = ours.neighbour_exchange_bidir_with_grad(left, right, to_left, to_right)
    (from_right * (peers.rank + 1) + from_left * 7 * (peers.rank + 1)).sum().backward()
    return [
        came.tolist(),
        own.grad.tolist(),
        [from_right.item(), from_left.item()],
        [to_left.grad.item(), to_right.grad.item()],
    ]


def test_rows_go_round_the_ring_and_gradients_come_back():
    for rank, (came, gradient, both, back) in enumerate(run_processes(3, _ring)):
        left, right = (rank - 1) % 3, (rank + 1) % 3
        assert came == [left, left]
        assert gradient == [right + 1, right + 1]
        assert both == [10 * right, 100 * left]
        # What went left came to it from its right, and what went right from its left.
        assert back == [left + 1, 7 * (right + 1)]


def test_what_is_refused():
    pair = rows(1, 0)[:2]
    with pytest.raises(ConfigError, match="init_process_group"):
        ours.ClipLoss(world_size=2)(*pair, 1.0)
    with pytest.raises(ConfigError, match="horovod"):
        ours.ClipLoss(use_horovod=True)(*pair, 1.0)
    with pytest.raises(UnknownNameError, match="gather"):
        ours.SigLipLoss(dist_impl="gathr")
