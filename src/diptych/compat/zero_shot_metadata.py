"""ImageNet's class names and OpenAI's templates (Radford et al. 2021, arXiv:2103.00020 §3.1.4) by
open_clip's names: a template is a function of a class name there."""

from diptych.data.wordnet import imagenet_names
from diptych.datasets.imagenet_templates import EIGHTY
from diptych.datasets.templates import TEMPLATES

OPENAI_IMAGENET_TEMPLATES = tuple(template.format for template in EIGHTY)
SIMPLE_IMAGENET_TEMPLATES = tuple(template.format for template in TEMPLATES["openai-7"])
IMAGENET_CLASSNAMES = tuple(imagenet_names().values())
