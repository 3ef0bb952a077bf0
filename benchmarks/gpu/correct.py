"""Is a step right on this device? Losses, gradients, towers and objectives beside the CPU's, the
equation's in float64, and those recorded of other code."""

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu import inner
from benchmarks.gpu.setting import Row, Setting, captions, error_of, within
from diptych import pretrained
from diptych.config import ClipObjectiveConfig, Run
from diptych.distributed import Peers
from diptych.models import build
from diptych.nn.norm import batch_norms
from diptych.objectives import accumulate
from diptych.objectives.info_nce import info_nce, tiled_info_nce
from diptych.objectives.sigmoid_loss import sigmoid_loss, tiled_sigmoid_loss
from tests import goldens
from tests.objectives import recorded

CLIP = ClipObjectiveConfig()


def losses(setting: Setting) -> Iterator[Row]:
    """Tiled, in float32, beside the equation in float64."""
    torch.manual_seed(0)
    pairs, width = setting.pick((24, 8), (1000, 512))
    images = F.normalize(torch.randn(pairs, width, dtype=torch.float64), dim=1)
    near = 0.3 * images + torch.randn(pairs, width, dtype=torch.float64) / width**0.5
    texts = F.normalize(near, dim=1)  # cosines as a trained CLIP has them
    for name, tiled, plain, more in (
        ("InfoNCE", tiled_info_nce, info_nce, ()),
        ("sigmoid", tiled_sigmoid_loss, sigmoid_loss, (-10.0,)),
    ):
        for scale in (14.0, 100.0, 2000.0):
            numbers = [torch.tensor([number]) for number in (scale, *more)]
            want = _gradients(plain, [images, texts, *numbers], torch.device("cpu"), torch.float64)
            for half in (False, True):
                with torch.autocast(setting.device.type, torch.bfloat16, enabled=half):
                    got = _gradients(
                        tiled, [images, texts, *numbers], setting.device, torch.float32
                    )
                error = max(map(error_of, got, want))
                title = f"{name}, scale {scale:.0f}{', under bf16 autocast' if half else ''}"
                yield within(title, error, 5e-4)


def _gradients(
    loss: Callable[..., Tensor], inputs: list[Tensor], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """The loss and its gradients."""
    leaves = [x.detach().to(device, dtype, copy=True).requires_grad_() for x in inputs]
    value = loss(*leaves)
    return [value, *torch.autograd.grad(value, leaves)]


def recorded_towers(setting: Setting) -> Iterator[Row]:
    """EVA's, of the original code."""
    for path in goldens.files("eva/*-tiny.json"):
        record = goldens.read(path)
        model = inner.recorded_eva(record).to(setting.device)
        pixels = goldens.images(record["image_seed"], record["image_shape"])
        with torch.inference_mode():
            found = (
                model.encode_image(pixels.to(setting.device)),
                model.encode_text(torch.tensor(record["tokens"], device=setting.device)),
            )
        for ours, kind in zip(found, ("image", "text"), strict=True):
            gap = ours.cpu() - torch.tensor(record[f"{kind}_features"])
            yield within(f"recorded {path.stem}, {kind}", float(gap.abs().max()), 5e-5)


def recorded_losses(setting: Setting) -> Iterator[Row]:
    """DeCLIP's, of the original code. Norms over its batches of four are left out: they make a
    thousandth of float32's rounding."""
    for path in goldens.files("declip/*.json"):
        record = goldens.read(path)
        expected = record.get("train_evalbn") or record.get("train_or_eval")
        if expected is None or "config" not in record:
            continue
        objective = recorded.objective(record).to(setting.device)
        for norm in batch_norms(objective):
            norm.eval()
        batch = recorded.batch(record).to(setting.device)
        total = objective(batch, Peers(device=setting.device)).total.item()
        gap = abs(total - expected.get("total", expected.get("loss")))
        yield within(f"recorded loss {path.stem}", gap, 1e-4)


def objectives(setting: Setting) -> Iterator[Row]:
    """Loss and gradients of all six, on the CPU and on the device."""
    for name, (config, model) in inner.OBJECTIVES.items():
        objective = inner.objective_of(config, model)
        batch = inner.batch_of(model, config, pairs=8)
        found = list[tuple[Tensor, dict[str, Tensor]]]()
        for device in (torch.device("cpu"), setting.device):
            there = copy.deepcopy(objective).to(device)
            result = accumulate(there, there, [batch.to(device)], Peers(device=device))
            there.after_step(result.carry)
            gradients = {n: p.grad for n, p in there.named_parameters() if p.grad is not None}
            found.append((result.total, gradients))
        (loss, want), (other, got) = found
        yield within(f"{name}: loss", error_of(other, loss), 1e-4)
        errors = [
            error_of(got[n], gradient) for n, gradient in want.items() if gradient.norm() > 1e-6
        ]
        yield within(f"{name}: gradients", max(errors), 2e-3)


def micro_batches(setting: Setting) -> Iterator[Row]:
    """Three steps of whole batches and of quarters of them."""
    batches = [inner.batch_of(inner.PLAIN, CLIP, pairs=8, seed=seed) for seed in range(3)]
    precisions: tuple[tuple[Literal["fp32", "bf16"], float], ...] = (("fp32", 1e-4), ("bf16", 5e-3))
    for precision, limit in precisions:
        runs = [
            inner.run_of(inner.PLAIN, 8, precision=precision, micro_batch=micro) for micro in (0, 2)
        ]
        whole, parts = (inner.weights_after(run, batches, setting) for run in runs)
        error = error_of(_together(parts), _together(whole))
        yield within(f"micro-batches, {precision}: weights after 3 steps", error, limit)


def _together(weights: Mapping[str, Tensor]) -> Tensor:
    """As one: of a tensor that is hardly moved the first steps of Adam are rounding."""
    return torch.cat([weights[name].double().flatten() for name in sorted(weights)])


def towers(setting: Setting) -> Iterator[Row]:
    """In float32 and bfloat16 beside float32 on the CPU."""
    for name in setting.pick(["tiny"], ["vit-b-32", "eva02-clip-b-16", "rn50"]):
        config = pretrained.get(name)
        torch.manual_seed(0)
        model = build(config).eval()
        pixels = torch.randn(4, 3, config.image.image_size, config.image.image_size)
        ids = captions(4, config.text.context_length)
        with torch.no_grad():
            want = model(pixels, ids)
            model, pixels, ids = (
                model.to(setting.device),
                pixels.to(setting.device),
                ids.to(setting.device),
            )
            got = model(pixels, ids)
            with torch.autocast(setting.device.type, torch.bfloat16):
                half = model(pixels, ids)
        yield within(f"{name}, fp32", max(map(error_of, got, want)), 1e-4)
        cosines = [F.cosine_similarity(a.cpu().double(), b.double()) for a, b in zip(half, want)]
        yield within(f"{name}, bf16: 1 - least cosine", 1 - float(torch.cat(cosines).min()), 2e-3)


def options(setting: Setting) -> Iterator[Row]:
    """Steps with a loss scale, with an average, with activations recomputed: weights stay numbers,
    and what recomputes has the weights of what doesn't."""
    batches = [inner.batch_of(inner.TINY, CLIP, pairs=8, seed=seed) for seed in range(3)]

    def weights(run: Run) -> dict[str, Tensor]:
        return inner.weights_after(run, batches, setting)

    plain = weights(inner.run_of(inner.TINY, 8, precision="fp32"))
    again = weights(inner.run_of(inner.TINY, 8, precision="fp32", checkpointing=True))
    error = error_of(_together(again), _together(plain))
    yield within("activations recomputed: weights after 3 steps", error, 1e-4)
    average = weights(inner.run_of(inner.TINY, 8, precision="fp32", ema=0.5))
    moved = error_of(_together(average), _together(plain))
    yield {"name": "moving average: finite, and not the weights", "ok": 0 < moved < float("inf")}
    scaled = weights(inner.run_of(inner.TINY, 8, precision="fp16"))
    is_finite = all(bool(tensor.isfinite().all()) for tensor in scaled.values())
    yield {"name": "fp16 with a loss scale: weights after 3 steps are finite", "ok": is_finite}


def host_stops(setting: Setting) -> Iterator[Row]:
    """Where the host waits for the device in one step, by torch's own watch."""
    if not setting.is_cuda:
        yield {"name": "host stops", "skipped": "needs CUDA"}
        return
    for name in ("vit-b-32", "eva02-clip-b-16"):
        config = pretrained.get(name)
        run, batch = inner.run_of(config, 64), inner.batch_of(config, CLIP, pairs=64)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            inner.around_a_step(
                run,
                batch,
                setting,
                lambda: (caught.clear(), torch.cuda.set_sync_debug_mode("warn")),
                lambda: torch.cuda.set_sync_debug_mode("default"),
            )
        stops = [w for w in caught if "synchronizing CUDA operation" in str(w.message)]
        places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in stops)
        yield within(f"host stops in a step, {name}", len(stops), 1, places=dict(places))


CHECKS = (
    losses,
    recorded_towers,
    recorded_losses,
    objectives,
    micro_batches,
    towers,
    options,
    host_stops,
)
