"""Evaluation datasets: which there are, how each is scored, and the reading of them from disk."""

from diptych.datasets.class_names import Prompts
from diptych.datasets.dataset import Dataset
from diptych.datasets.entry import EvaluationSet, Found, Kind, Metric, Wanted
from diptych.datasets.layouts import Files
from diptych.datasets.lookup import GROUPS, builtin, get, names, select
from diptych.datasets.open import open_set
from diptych.datasets.own import open_own
from diptych.datasets.profiles import Profile, ProfileChange, Resize, profile, profiles
from diptych.datasets.published import PublishedScore, published
from diptych.datasets.templates import TEMPLATES, templates

__all__ = [
    "Dataset",
    "EvaluationSet",
    "Files",
    "Found",
    "GROUPS",
    "Kind",
    "Metric",
    "Profile",
    "ProfileChange",
    "Prompts",
    "PublishedScore",
    "Resize",
    "TEMPLATES",
    "Wanted",
    "builtin",
    "get",
    "names",
    "open_own",
    "open_set",
    "profile",
    "profiles",
    "published",
    "select",
    "templates",
]
