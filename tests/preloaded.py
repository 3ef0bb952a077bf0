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
from PIL import Image

import diptych.distributed.planned
import diptych.evaluation
import diptych.search
import diptych.training
from diptych import families
from diptych.cli.train import new_run
from diptych.inputs.vocabulary import read_vocabulary

for _module in pkgutil.walk_packages(families.__path__, "diptych.families."):
    importlib.import_module(_module.name)
Image.init()
read_vocabulary()
new_run("tiny-digits", ["--steps", "1"])  # what tyro works out of types and docstrings, it keeps
gc.freeze()  # of what stays, no process has to look for cycles
