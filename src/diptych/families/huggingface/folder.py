"""Folders of transformers' models with CLIP's image tower and a text tower of its own: what their
config.json says, both ways.

https://huggingface.co/docs/transformers/model_doc/chinese_clip and altclip
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.config import (
    ClipConfig,
    ImageTowerConfig,
    PreprocessConfig,
    TextTowerConfig,
    TowerConfig,
)
from diptych.errors import CheckpointError
from diptych.families.clip.config import VitConfig
from diptych.families.clip.layouts import transformers, transformers_names
from diptych.families.clip.layouts import transformers_inputs as inputs
from diptych.families.clip.layouts import transformers_sections as sections
from diptych.families.huggingface.config import HuggingFaceTextConfig
from diptych.weights.layout import Export, Inputs, Layout, WeightSource
from diptych.weights.mapping import Table
from diptych.weights.read import read_json
from diptych.weights.state import State


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """How one class of them is read and written."""

    called: str
    """By people."""
    model_type: str
    """In config.json; with `_text_model` behind it, that of the text tower alone."""
    architecture: str
    """The class."""
    table: Table
    """The weights' names, as they are written."""
    read_text: Callable[[dict[str, Any]], HuggingFaceTextConfig]
    """From `text_config`."""
    write_text: Callable[[HuggingFaceTextConfig], dict[str, Any]]
    """`text_config`. Raises CheckpointError for what the class can't build."""
    processor: Mapping[str, str]
    """What preprocessor_config.json says beside the steps."""
    embed_dim: int = 512
    """Where config.json doesn't say it."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """Of what preprocessor_config.json leaves out."""

    def layout(
        self,
        name: str,
        text: tuple[str, ...],
        table: Callable[[Collection[str]], Table],
        texts: Callable[[TowerConfig], bool],
    ) -> Layout:
        """The layout of whole models, whose `text` and `table` are as `Layout` has them; `texts`:
        whether the class has a place for a text tower."""
        return Layout(
            name=name,
            image=transformers_names.IMAGE_MARKS[:1],
            text=text,
            scale=("logit_scale",),
            table=table,
            config=self.read_config,
            config_file=transformers.CONFIG,
            model_types=(self.model_type,),
            tower_config=self.tower_config,
            text_config=self.text_config,
            describe=self.describe,
            weight_files=transformers.WEIGHT_FILES,
            exports=(
                Export(
                    name="transformers",
                    write=self.export,
                    holds=lambda tower: isinstance(tower, VitConfig),
                    texts=texts,
                ),
            ),
            priority=-2,  # its image tower is CLIP's
        )

    def read_config(self, source: WeightSource, state: State) -> tuple[ClipConfig, dict[str, Any]]:
        """From config.json and what lies beside it. Raises CheckpointError without it: neither
        heads nor the tokenizer can be told."""
        file = self._config_file(source)
        return self.read_file(file), {"config": file.name}

    def tower_config(
        self, source: WeightSource, state: State
    ) -> tuple[ImageTowerConfig, dict[str, Any]]:
        """The image tower's, as `read_config`."""
        config, notes = self.read_config(source, state)
        return config.image, notes

    def text_config(
        self, source: WeightSource, state: State
    ) -> tuple[TextTowerConfig, dict[str, Any]]:
        """The text tower's, as `read_config`, or of one that lies alone, which has no
        projection."""
        file = self._config_file(source)
        content = read_json(file)
        if content.get("model_type") == f"{self.model_type}_text_model":
            text = self.read_text(sections.checked(content, file.name))
            return replace(text, projection="none"), {"config": file.name}
        return self.read_file(file).text, {"config": file.name}

    def inputs(self, folder: Path, tower: TowerConfig) -> Inputs | None:
        """Of a text tower alone: the folder's own tokenizer."""
        if not isinstance(tower, TextTowerConfig):
            return None
        return Inputs(tokenizer=inputs.read_tokenizer(folder, tower))

    def describe(self, content: dict[str, Any], path: Path) -> ClipConfig | None:
        """A config.json of this class."""
        return self.read_file(path) if content.get("model_type") == self.model_type else None

    def read_file(self, file: Path) -> ClipConfig:
        """From the config.json `file` and what lies beside it. Raises CheckpointError for what has
        no place in a Diptych model."""
        content = read_json(file)
        if (kind := content.get("model_type")) != self.model_type:
            raise CheckpointError(
                f"{file.name} describes a {kind!r} model, not a {self.model_type!r} one"
            )
        said = {"projection_dim": self.embed_dim} | content
        image = transformers.image_config
        return transformers.model_config(file, said, image, self.read_text, self.preprocess)

    def _config_file(self, source: WeightSource) -> Path:
        file = source.file.parent / transformers.CONFIG
        if not file.is_file():
            raise CheckpointError(
                f"{file.name} isn't beside the weights: it says how {self.called} is built; copy "
                "it from where they come from"
            )
        return file

    def export(self, folder: Path, config: ClipConfig, state: Mapping[str, Tensor]) -> None:
        """All files, for `from_pretrained` of the class and of its processor. Raises
        CheckpointError for what these can't hold."""
        image, text = config.image, config.text
        if not isinstance(image, VitConfig) or not isinstance(text, HuggingFaceTextConfig):
            raise CheckpointError(
                f"transformers' {self.architecture} has no place for a {type(image).__name__} "
                f"and a {type(text).__name__}"
            )
        written = {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "projection_dim": config.embed_dim,
            "logit_scale_init_value": config.logit_scale,
            "vision_config": transformers.image_json(image, self.model_type, config),
            "text_config": self.write_text(text),
        }
        weights = self.table.to_foreign(state)
        transformers.write(folder, config, written, weights, self._preprocess_json)

    def _preprocess_json(self, config: ClipConfig) -> dict[str, Any]:
        return inputs.preprocess_json(config) | dict(self.processor)
