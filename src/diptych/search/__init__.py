"""Pictures found by a text or by another picture: an index on disk, exact, brought up to date
incrementally."""

from diptych.search.duplicates import Duplicate, Group, duplicates
from diptych.search.filters import Condition, Where
from diptych.search.index import Hit, Index
from diptych.search.joined import Joined, join
from diptych.search.metadata import Metadata
from diptych.search.pictures import Picture
from diptych.search.query import Query, Term
from diptych.search.scan import nearest
from diptych.search.texts import update_texts
from diptych.search.update import Changes, update

__all__ = [
    "Changes",
    "Condition",
    "Duplicate",
    "Group",
    "Hit",
    "Index",
    "Joined",
    "Metadata",
    "Picture",
    "Query",
    "Term",
    "Where",
    "duplicates",
    "join",
    "nearest",
    "update",
    "update_texts",
]
