"""What folders of transformers' models with an own text tower are refused for, both ways."""

import json
from dataclasses import replace

import pytest

from diptych.checkpoints import convert, load_model
from diptych.errors import CheckpointError
from diptych.weights.native import save_model


def refuse_changed(folder, change, said):
    """With this `change` of its config.json."""
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


def refuse_bare(folder, said):
    """Without its config.json."""
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=said):
        load_model(folder)


def refuse_to_write(config, change, said, random_model, tmp_path):
    """A model whose text tower has this `change`."""
    model = random_model(replace(config, text=replace(config.text, **change)))
    native = save_model(tmp_path / "native", model)
    with pytest.raises(CheckpointError, match=said):
        convert(native, "transformers", tmp_path / "out")
