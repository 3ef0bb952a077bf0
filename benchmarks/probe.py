"""The linear probe beside scikit-learn's sweep and CLIP_benchmark's own, each called once, in turn.

`python -m benchmarks.probe [--samples 50000 --width 512 --classes 100] [--cap 1000] [--only sklearn
clip]`. All choose the penalty on the same held-out fifth, fit the whole and are asked on the same
10,000 test samples. Without options this is the small size of `python -m benchmarks probe`, a
minute.

scikit-learn: LogisticRegression (L-BFGS) for the strengths that our own sweep visited, and a last
fit. At its default tolerance it can end after one step at chance, since features of length 1 have
small gradients; so it gets 1e-6, and at most `--cap` steps a fit (1,000, as CLIP's authors).
CLIP_benchmark 1.6.2: its `find_peak`, `train` and `infer` as its `evaluate` calls them (19 + 1
trainings of 10 epochs, batches of 64, AdamW); `--trainings 1` times one and multiplies, 0 runs all,
for which its `accuracy` needs numpy below 2.4. It asks for a GPU: on a CPU, `.cuda()` is made to
return the tensor as it is, and autocast is off. `pip install --no-deps clip-benchmark==1.6.2` is
enough for it; `rows` leaves it out where it is missing.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.compare import Row
from diptych.evaluation import LinearProbe, fit_probe

SMALL = (4000, 128, 20)
TEST = 10_000


@dataclass(frozen=True, kw_only=True)
class Data:
    train: Tensor
    train_labels: Tensor
    held: Tensor
    held_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def whole(self) -> tuple[Tensor, Tensor]:
        return torch.cat([self.train, self.held]), torch.cat([self.train_labels, self.held_labels])


@dataclass(frozen=True, kw_only=True)
class Found:
    name: str
    seconds: float
    processor_seconds: float
    """which other programs on the machine change less"""
    accuracy: float
    objective: float
    """of the whole set, at the strength that was chosen; see `LinearProbe`"""
    gradient: float
    note: str = ""


def made(samples: int, width: int, classes: int, seed: int = 0) -> Data:
    """Unit vectors in a cone: four modes a class, uneven spectrum, heavy tails in 48 directions, 3
    % wrong labels."""
    torch.manual_seed(seed)
    count = samples + TEST
    labels, mode = torch.randint(0, classes, (count,)), torch.randint(0, 4, (count,))
    x = (
        torch.randn(classes, width)[labels]
        + 0.7 * torch.randn(4 * classes, width)[4 * labels + mode]
    )
    spectrum = torch.arange(1, width + 1) ** -0.35
    spread = (0.7 + 0.6 * torch.rand(classes))[labels, None]
    x += 5.0 * spread * torch.randn(count, width) * spectrum / spectrum.square().mean().sqrt()
    x += 0.5 * torch.distributions.StudentT(4.0).sample((count, 48)) @ torch.randn(48, width)
    x = torch.nn.functional.normalize(x + 2 * torch.randn(1, width), dim=1)
    wrong = torch.rand(count) < 0.03
    labels[wrong] = torch.randint(0, classes, (int(wrong.sum()),))
    split = [samples - samples // 5, samples // 5, TEST]
    (train, held, test), (a, b, c) = x.split(split), labels.split(split)
    return Data(train=train, train_labels=a, held=held, held_labels=b, test=test, test_labels=c)


def objective(data: Data, weights: Tensor, bias: Tensor, strength: float) -> float:
    """Mean cross entropy and penalty in float64, on the whole set."""
    x, y = data.whole
    loss = 0.0
    for rows in torch.arange(len(x)).split(8192):
        logits = x[rows].double() @ weights.double() + bias.double()
        loss += torch.nn.functional.cross_entropy(logits, y[rows], reduction="sum").item()
    return loss / len(x) + weights.double().square().sum().item() / (2 * strength * len(x))


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def passed(start: tuple[float, float], factor: float = 1.0) -> dict[str, float]:
    wall, processor = (factor * (now - then) for now, then in zip(clocks(), start))
    return {"seconds": wall, "processor_seconds": processor}


def ours(data: Data) -> tuple[Found, LinearProbe]:
    start = clocks()
    probe = fit_probe(data.train, data.train_labels, validation=(data.held, data.held_labels))
    found = Found(
        name="Diptych",
        **passed(start),
        accuracy=probe.accuracy(data.test, data.test_labels),
        objective=objective(data, probe.weights, probe.bias, probe.strength),
        gradient=probe.gradient,
        note=f"strength {probe.strength:.3g}, {probe.iterations} Newton steps, "
        f"{probe.passes} passes",
    )
    return found, probe


def sklearn_sweep(data: Data, strengths: list[float], cap: int, best: float) -> Found:
    """The sweep's time, then the last fit at our strength, so that objectives can be compared."""
    from sklearn.linear_model import LogisticRegression

    x, y = (part.numpy() for part in data.whole)

    def fit(inputs: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the cap was reached; the note says it
            return LogisticRegression(C=strength, tol=1e-6, max_iter=cap).fit(inputs, labels)

    start, steps = clocks(), []
    for strength in strengths:
        model = fit(data.train.numpy(), data.train_labels.numpy(), strength)
        model.score(data.held.numpy(), data.held_labels.numpy())
        steps.append(int(model.n_iter_[0]))
    model = fit(x, y, best)
    taken = passed(start)
    weights, bias = torch.from_numpy(model.coef_.T), torch.from_numpy(model.intercept_)
    z = torch.from_numpy(x).double() @ weights.double() + bias.double()
    residuals = z.softmax(1) - torch.nn.functional.one_hot(torch.from_numpy(y))
    gradient = torch.from_numpy(x).double().T @ residuals / len(x) + weights / (best * len(x))
    return Found(
        name="scikit-learn",
        **taken,
        accuracy=float(model.score(data.test.numpy(), data.test_labels.numpy())),
        objective=objective(data, weights, bias, best),
        gradient=gradient.abs().max().item(),
        note=f"{len(strengths)} strengths, steps {[*steps, int(model.n_iter_[0])]}, at most {cap}",
    )


def clip_benchmark_sweep(data: Data, strength: float, trainings: int) -> Found:
    """As `clip_benchmark.metrics.linear_probe.evaluate` does with a validation set; 0 trainings:
    all twenty."""
    from clip_benchmark.metrics import linear_probe as peer
    from torch.utils.data import DataLoader

    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape, classes = data.train.shape[1], int(data.whole[1].max()) + 1

    def loader(x: Tensor, y: Tensor) -> DataLoader:
        return DataLoader(peer.FeatureDataset(x, y), batch_size=64, shuffle=True, num_workers=0)

    train, held = loader(data.train, data.train_labels), loader(data.held, data.held_labels)
    settings = (shape, classes)
    rest = (0.1, 10, device == "cuda", device)
    decays = np.logspace(-6, 2, num=97).tolist()
    patches = ExitStack()
    if device == "cpu":
        patches.enter_context(patch.object(torch.nn.Module, "cuda", lambda self: self))
        patches.enter_context(patch.object(Tensor, "cuda", lambda self: self))
    with patches, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        start = clocks()
        decay = 0.0
        if not trainings:
            coarse = [
                i for i, value in enumerate(decays) if value in np.logspace(-6, 2, num=7).tolist()
            ]
            peak, span = peer.find_peak(decays, coarse, train, held, *settings, *rest, False, 0), 8
            while span:
                around = [max(peak - span, 0), peak, min(peak + span, 96)]
                peak, span = (
                    peer.find_peak(decays, around, train, held, *settings, *rest, False, 0),
                    span // 2,
                )
            decay = decays[peak]
        for _ in range(trainings - 1):
            peer.train(loader(*data.whole), *settings, decay, *rest, 0)
        model = peer.train(loader(*data.whole), *settings, decay, *rest, 0)
        # Of the twenty, nineteen leave out the held-out fifth.
        taken = passed(
            start, (1 + 19 * len(data.train) / len(data.whole[0])) / trainings if trainings else 1.0
        )
        logits, target = peer.infer(
            model, loader(data.test, data.test_labels), device == "cuda", device
        )
    weight, bias = (parameter.detach().cpu() for parameter in model.parameters())
    return Found(
        name="CLIP_benchmark",
        **taken,
        accuracy=(logits.argmax(1) == target).double().mean().item(),
        objective=objective(data, weight.T, bias, strength),
        gradient=float("nan"),
        note=f"weight decay {decay:.3g}"
        + (f"; {trainings} of 20 trainings timed" if trainings else ""),
    )


def compared(size: tuple[int, int, int], cap: int, trainings: int, only: list[str]) -> list[Found]:
    data = made(*size)
    mine, probe = ours(data)
    found = [mine]
    print(mine, flush=True)
    if "sklearn" in only:
        found.append(sklearn_sweep(data, list(probe.path), cap, probe.strength))
        print(found[-1], flush=True)
    if "clip" in only:
        found.append(clip_benchmark_sweep(data, probe.strength, trainings))
        print(found[-1], flush=True)
    return found


def rows(size: tuple[int, int, int] = SMALL, cap: int = 1000, trainings: int = 1) -> Iterator[Row]:
    mine, *others = compared(
        size, cap, trainings, ["sklearn", *(["clip"] if find_spec("clip_benchmark") else [])]
    )
    for other in others:
        ahead = 100 * (mine.accuracy - other.accuracy)
        gap = mine.objective - other.objective
        check = f"accuracy {mine.accuracy:.4f} ({ahead:+.2f} points), objective {gap:+.1e}"
        title = f"linear probe beside {other.name}, {size[0]} x {size[1]}, {size[2]} classes"
        yield Row(name=title, unit="s", ours=mine.seconds, theirs=other.seconds, check=check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in zip(("samples", "width", "classes"), SMALL):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cap", type=int, default=1000)
    parser.add_argument("--trainings", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", default=["sklearn", "clip"], choices=["sklearn", "clip"]
    )
    parser.add_argument("--out", type=Path, default=Path("results/probe.json"))
    options = parser.parse_args()
    found = compared(
        (options.samples, options.width, options.classes),
        options.cap,
        options.trainings,
        options.only,
    )
    for one in found[1:]:
        wall, processor = (
            one.seconds / found[0].seconds,
            one.processor_seconds / found[0].processor_seconds,
        )
        print(
            f"{one.name}: {wall:.1f}x our {found[0].seconds:.1f} s; processor time {processor:.1f}x"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"options": vars(options), "found": [asdict(one) for one in found]}, default=str)
    )
