"""A model passes through little more memory than it has, however large its file.

The peak is the kernel's own record of a fresh process, so that nothing escapes it. Weights are
zeros, which cost no memory while they are written.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diptych import models, pretrained
from diptych.config.serialize import to_json
from diptych.families.eva.layouts import eva
from diptych.weights import mapped
from tests.families.eva.small import MODELS

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak is read as Linux tells it"
)

MEGABYTE = 2**20
SCRIPT = """
import json, sys, torch
from diptych.checkpoints import load_model
from diptych.weights import mapped
from diptych.config import ClipConfig
from diptych.config.serialize import from_dict
path, config, dtype, mapped.TAKEN = *sys.argv[1:4], int(sys.argv[4])
config = from_dict(ClipConfig, json.loads(config))
def peak():
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
# What the first use of torch costs; in 2.9 the meta device imports sympy.
import torch.fx.experimental.symbolic_shapes
torch.aminmax(torch.zeros(1000, 1000).half()), torch.zeros(9).bfloat16()
before = peak()
model = load_model(path, config=config, dtype=getattr(torch, dtype)).model
size = sum(parameter.nbytes for parameter in model.parameters())
assert all(parameter.abs().max() == 0 for parameter in model.image.blocks[-1].parameters())
print(json.dumps({"beyond": peak() - before - size, "model": size}))
"""


def write(folder, config, dtype, kind):
    """A checkpoint of EVA's layout: the path that names it, and the bytes of its largest file."""
    shapes = eva.export_table(config.image).to_foreign(models.build(config, "meta").state_dict())
    tensors = {name: torch.zeros(like.shape, dtype=dtype) for name, like in shapes.items()}
    if kind == "pt":
        torch.save({"module": tensors, "epoch": 3}, folder / "w.pt")
        return folder / "w.pt", (folder / "w.pt").stat().st_size
    names, index = list(tensors), {}
    for i in range(4):
        part = names[i * len(names) // 4 : (i + 1) * len(names) // 4]
        save_file({name: tensors[name] for name in part}, folder / f"{i}.safetensors")
        index |= dict.fromkeys(part, f"{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder / "model.safetensors.index.json", max(
        f.stat().st_size for f in folder.glob("*.safetensors")
    )


def measured(path, config, dtype, taken=mapped.TAKEN):
    arguments = [str(path), to_json(config), dtype, str(taken)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("pt", "bfloat16"), pytest.param("shards", "float32", marks=pytest.mark.slow)],
)
def test_a_few_tensors_beyond_the_model(tmp_path, kind, dtype):
    """200 megabytes in float32, where parts become one matrix, and no tensor has more than 20."""
    config = MODELS["eva02-b"]
    config = replace(config, image=replace(config.image, layers=5, width=800, mlp_width=3000))
    path, _ = write(tmp_path, config, torch.float32, kind)
    found = measured(path, config, dtype, taken=16 * MEGABYTE)
    assert found["model"] > (90 if dtype == "bfloat16" else 180) * MEGABYTE
    assert found["beyond"] < 64 * MEGABYTE


@pytest.mark.slow
@pytest.mark.parametrize("stored", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("kind", ["pt", "shards"])
def test_gigabytes(tmp_path, kind, stored):
    """EVA01-CLIP-g-14, 1.1 billion parameters: 4.5 or 2.3 gigabytes, in one file of torch's or four
    shards."""
    config = pretrained.get("eva01-clip-g-14")
    path, largest = write(tmp_path, config, stored, kind)
    for dtype in ("float32", "float16", "bfloat16"):
        found = measured(path, config, dtype)
        assert found["model"] > 2e9
        assert found["beyond"] < min(2**30, largest + 2**30), (kind, stored, dtype)
    for file in tmp_path.iterdir():
        file.unlink()
