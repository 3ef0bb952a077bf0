"""MetaCLIP 2 (Chuang et al. 2025, arXiv:2507.22062): CLIP's towers over the world's languages."""

from diptych.families.base import Family

__all__ = ["FAMILY"]

FAMILY = Family(name="metaclip", pretrained="diptych.families.metaclip.pretrained:entries")
