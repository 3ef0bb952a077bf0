"""Pictures found by a text or by another picture: an index on disk, exact, brought up to date
incrementally."""

from diptych.search.index import Hit, Index
from diptych.search.pictures import Picture
from diptych.search.query import Query, Term
from diptych.search.scan import nearest
from diptych.search.update import Changes, update

__all__ = ["Changes", "Hit", "Index", "Picture", "Query", "Term", "nearest", "update"]
