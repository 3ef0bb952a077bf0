"""How weights came about that open_clip knows by a tag: what the tag says (data, samples seen,
batch), and what is known beside it."""

import re

from diptych.families.entry import Training

_DATA = {
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B, its English pairs",
    "laion_aesthetic": "LAION-Aesthetic, of LAION-2B",
    "datacomp_xl": "DataComp-1B",
    "datacomp_l": "DataComp's large pool, filtered",
    "datacomp_m": "DataComp's medium pool, filtered",
    "datacomp_s_": "DataComp's small pool, filtered",
    "datacomp": "DataComp-1B",
    "commonpool_xl": "CommonPool, 12.8 B pairs",
    "commonpool_l": "CommonPool, 1.28 B pairs",
    "commonpool_m": "CommonPool, 128 M pairs",
    "commonpool_s": "CommonPool, 12.8 M pairs",
    "metaclip_400m": "MetaCLIP's 400 M pairs",
    "metaclip_fullcc": "MetaCLIP's 2.5 B pairs",
    "metaclip_altogether": "MetaCLIP's pairs with captions of Altogether",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "openai": "400 M pairs of the web (WIT)",
    "yfcc15m": "YFCC15M",
    "cc12m": "CC12M",
}
"""By what a tag begins with."""
_FILTERS = {
    "clip": "CLIP's score",
    "laion": "LAION's filter",
    "image": "images",
    "text": "texts",
    "basic": "basic rules",
}
"""Of a part of CommonPool: by what it was filtered."""
_RUN = re.compile(r"_s(?P<seen>\d+)(?P<unit>[bm])_b(?P<batch>\d+k)")
_EPOCHS = re.compile(r"_e(\d+)$")
_HARDWARE = {
    "ViT-B-32/laion400m": "128 A100 of 40 GB, 4,600 GPU hours",
    "ViT-B-16/laion400m": "176 A100 of 40 GB, 10,700 GPU hours",
    "ViT-L-14/laion400m": "400 A100 of 40 GB, 50,800 GPU hours",
    "ViT-H-14/laion2b": "824 A100",
    "ViT-g-14/laion2b_s12b": "800 A100",
    "ViT-bigG-14/laion2b": "512 A100 of 80 GB",
    "ViT-B-32/metaclip": "64 V100",
    "ViT-B-16/metaclip": "64 V100",
    "ViT-L-14/metaclip": "128 V100",
    "ViT-H-14/metaclip_fullcc": "256 A100",
    "ViT-bigG-14/metaclip": "256 A100",
}
"""open_clip's docs/PRETRAINED.md; laion.ai/blog, large-openclip and giant-openclip; MetaCLIP's
README."""
_SEEN = {
    "ViT-B-32/metaclip": "12.8 B",
    "ViT-B-16/metaclip": "12.8 B",
    "ViT-L-14/metaclip": "12.8 B",
    "ViT-H-14/metaclip_fullcc": "12.8 B",
    "ViT-bigG-14/metaclip": "12.8 B",
    "ViT-L-14/dfn2b_s39b": "39 B",
    "ViT-H-14/dfn5b": "39 B",
    "ViT-H-14-378/dfn5b": "39 B of 224 pixels, then 5 B of 384",
}
"""Of tags that don't say it; MetaCLIP's README and Apple's cards."""
_USE = "research; deployed uses are out of scope, surveillance and face recognition in any case"


def training_of(label: str, owner: str) -> Training:
    """Of the weights `model/tag`, which `owner` has published.

    >>> from diptych.families.clip.tags import training_of
    >>> found = training_of("ViT-L-14/commonpool_xl_clip_s13b_b90k", "laion")
    >>> found.data, found.seen, found.batch
    ("CommonPool, 12.8 B pairs, filtered by CLIP's score", '13 B', '90K')
    """
    model, _, tag = label.partition("/")
    data = _begun(tag, _DATA)
    run, epochs = _RUN.search(tag), _EPOCHS.search(tag)
    part = tag[: run.start() if run else None].rpartition("_")[2]
    if tag.startswith("commonpool") and part in _FILTERS:
        data += f", filtered by {_FILTERS[part]}"
    place = f"{model.removesuffix('-quickgelu')}/{tag}"
    readme = "; MetaCLIP's README" if tag.startswith("metaclip") else ""
    source = {"laion": "; LAION's card", "apple": "; Apple's card"}.get(owner, readme)
    return Training(
        data=data,
        seen=f"{run['seen']} {run['unit'].upper()}" if run else _begun(place, _SEEN),
        epochs=epochs[1] if epochs else "",
        batch=run["batch"].upper() if run else "",
        hardware=_begun(place, _HARDWARE),
        use=_USE if owner == "laion" else "",
        source="the tag, as its publishers name it" + source,
    )


def _begun(name: str, known: dict[str, str]) -> str:
    """What is said of the first beginning of `name`; empty: nothing is."""
    return next((said for begin, said in known.items() if name.startswith(begin)), "")
