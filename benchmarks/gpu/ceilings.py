"""What this machine can do at best: products, copies; and what is installed on it."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.gpu.setting import Row, Setting

LIBRARIES = ("triton", "torchvision", "timm", "open_clip_torch", "torchao", "simplejpeg")


def machine(setting: Setting) -> Iterator[Row]:
    name = torch.cuda.get_device_name() if setting.is_cuda else platform.processor()
    found = {library: _version(library) for library in LIBRARIES}
    row = {"name": "machine", "device": name, "cores": os.cpu_count(), "torch": torch.__version__}
    yield row | {"python": platform.python_version()} | found


def products(setting: Setting) -> Iterator[Row]:
    yield {"name": "product bf16", "tflops": setting.teraflops()}
    side = setting.pick(256, 4096)
    a, b = (torch.randn(side, side, device=setting.device) for _ in range(2))
    for kind, precision in (("tf32", "high"), ("fp32", "highest")):
        torch.set_float32_matmul_precision(precision)
        milliseconds = setting.milliseconds(lambda: a @ b)
        yield {"name": f"product {kind}", "tflops": 2 * side**3 / milliseconds / 1e9}


def copies(setting: Setting) -> Iterator[Row]:
    here = torch.randn(setting.pick(1 << 20, 1 << 30), device=setting.device)
    there = torch.empty_like(here)
    milliseconds = setting.milliseconds(lambda: there.copy_(here))
    yield {"name": "copy on the device", "tb_per_s": 2 * here.nbytes / milliseconds / 1e9}
    if not setting.is_cuda:
        yield {"name": "copies from the host", "skipped": "needs CUDA"}
        return
    host = torch.empty(1 << 28, dtype=torch.uint8)
    target = torch.empty_like(host, device=setting.device)
    for kind, source in (("pinned", host.pin_memory()), ("pageable", host)):
        milliseconds = setting.milliseconds(lambda: target.copy_(source, non_blocking=True))  # noqa: B023
        yield {"name": f"copy from the host, {kind}", "gb_per_s": host.nbytes / milliseconds / 1e6}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"


CHECKS = (machine, products, copies)
