"""An objective with teachers, in a file of its own: pairs are contrasted, and each picture's vector
is drawn to those of the teachers."""

from dataclasses import dataclass

import torch

from diptych.batch import Batch
from diptych.config import TaughtConfig
from diptych.distributed import Peers
from diptych.objectives import Features, Losses, Objective, Teacher
from diptych.objectives.features import unit
from diptych.objectives.info_nce import tiled_info_nce


@dataclass(frozen=True, kw_only=True)
class MimicConfig(TaughtConfig):
    implementation = "tests.objectives.mimic:Mimic"


class Mimic(Objective):
    def __init__(self, config, model, teachers):
        super().__init__(model)
        self.kept = torch.nn.ModuleList(Teacher(teacher) for teacher in teachers)
        for teacher in self.teachers:
            teacher.check_texts(model.config)

    def targets(self, batch: Batch) -> Features:
        found = {}
        for number, teacher in enumerate(self.teachers):
            found[f"seen {number}"] = unit(teacher.see(batch).pooled)
            found[f"read {number}"] = unit(teacher.read(batch).pooled)
        return found

    def loss(self, features: Features, peers: Peers) -> Losses:
        image, text = features["image"], features["text"]
        scale = self.model.logit_scale.exp()
        total = tiled_info_nce(image, text, scale, tile=3, peers=peers)
        for name, target in features.items():
            if name.startswith(("seen", "read")):
                own = image if name.startswith("seen") else text
                total = total + (own - target).square().sum(dim=1).mean()
        return Losses(total, {"loss": total.detach()})
