"""What a process of `tests.forked` has imported and read when it begins: what most of them would
themselves, each anew."""

# ruff: noqa: F401
import gc
import importlib
import pkgutil

import pandas
import pytest
import scipy.special
import torch._dynamo.repro.after_dynamo
import torch._dynamo.testing
import torch.distributed.fsdp
import torch.distributed.tensor.experimental
import torch.nn.parallel
import tyro
from PIL import Image

import diptych.cli.train
import diptych.distributed.planned
import diptych.evaluation
import diptych.search
import diptych.training
from diptych import families
from diptych.config import OptimConfig
from diptych.inputs.vocabulary import read_vocabulary

for _module in pkgutil.walk_packages(families.__path__, "diptych.families."):
    importlib.import_module(_module.name)
Image.init()
read_vocabulary()
tyro.cli(OptimConfig, args=[])  # its backend, and what it needs
gc.freeze()  # of what stays, no process has to look for cycles
