"""Scripts of people who have transformers and a folder that `diptych convert` wrote, each in a
process of its own that has imported transformers alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import diptych
from diptych.weights.native import save_model
from tests.compat.conftest import Published, publish
from tests.compat.test_snippets import CAPTIONS, NO_AUTOCAST, changed, expected

pytest.importorskip("transformers")

AUTO = """
import sys, torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoTokenizer, CLIPImageProcessor
folder, picture = {folder!r}, {picture!r}
assert "diptych" not in sys.modules
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
assert config.model_type == "eva_clip" and config.projection_dim == 24, config
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
texts = ["a cat", "two dogs"]
inputs = processor(text=texts, images=Image.open(picture), return_tensors="pt", padding=True)
out = model(**inputs)
assert out.logits_per_image.shape == (1, 2) and out.image_embeds.shape == (1, 24)
features = model.get_image_features(inputs.pixel_values)
assert torch.equal(features, model.encode_image(inputs.pixel_values))
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
assert tokenizer("a cat").input_ids[0] == 49406
assert CLIPImageProcessor.from_pretrained(folder).crop_size["height"] == 56
model.save_pretrained(folder + "-again")
again = AutoModel.from_pretrained(folder + "-again", dtype="bfloat16", trust_remote_code=True)
assert again.encode_image(inputs.pixel_values).dtype == torch.bfloat16
"""


WITHOUT_US = """
import sys
from transformers import AutoModel
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name == "diptych":
            raise ModuleNotFoundError("No module named 'diptych'", name=name)
sys.meta_path.insert(0, NotInstalled())
AutoModel.from_pretrained({folder!r}, trust_remote_code=True)
"""


HUGGING_FACE = """
{code}
torch.save(label_probs, {out!r})
"""


def eva_clip_8b(published: Published, exported: Path, out: Path) -> str:
    """The snippet of EVA-CLIP-8B's card."""
    code = changed(
        "eva-clip-18b-huggingface.txt",
        ('"BAAI/EVA-CLIP-8B"', repr(str(exported))),
        (
            '"openai/clip-vit-large-patch14"',
            "model_name_or_path",
        ),  # the folder has its own, and nothing is fetched
        (
            '"pt", padding=True).pixel_values',
            '"pt").pixel_values',
        ),  # transformers 5 refuses to pad pictures
        ("'cuda'", "'cuda' if torch.cuda.is_available() else 'cpu'"),  # the README asks for a GPU
        ('"CLIP.png"', repr(str(published.picture))),
        NO_AUTOCAST,
    )
    return HUGGING_FACE.format(code=code, out=str(out))


FORKS = """
import json, os, sys, traceback
import transformers.modeling_utils, transformers.tokenization_utils_tokenizers
assert "diptych" not in sys.modules
for script, said in json.load(sys.stdin):
    if not os.fork():
        for stream in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        try:
            exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""What takes seconds, the imports, they share."""


class Ran(NamedTuple):
    published: Published
    ends: dict[str, tuple[int, str]]
    """Exit code of each, and what it said."""
    probabilities: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    folder = tmp_path_factory.mktemp("alone")
    published = publish(folder)
    save_model(folder / "native", published.model)
    exported = diptych.convert(folder / "native", "transformers", folder / "exported")
    out = folder / "probabilities.pt"
    scripts = {
        "without us": WITHOUT_US.format(folder=str(exported)),
        "auto classes": AUTO.format(folder=str(exported), picture=str(published.picture)),
        "eva-clip-8b": eva_clip_8b(published, exported, out),
    }
    fresh = {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        input=json.dumps([(script, str(folder / name)) for name, script in scripts.items()]),
        env=os.environ | fresh,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = map(int, done.stdout.split())
    ends = {name: (code, (folder / name).read_text()) for name, code in zip(scripts, codes)}
    return Ran(published, ends, out)


def test_auto_classes_load_a_folder_with_its_remote_code(ran):
    code, said = ran.ends["auto classes"]
    assert code == 0, said


def test_a_process_without_diptych_says_what_to_install(ran):
    code, said = ran.ends["without us"]
    assert code == 1
    assert "Run `pip install diptych`" in said


def test_eva_clip_8bs_card(ran):
    code, said = ran.ends["eva-clip-8b"]
    assert code == 0, said
    torch.testing.assert_close(
        torch.load(ran.probabilities).float(),
        expected(ran.published, CAPTIONS),
        rtol=0.05,
        atol=0.01,
    )
