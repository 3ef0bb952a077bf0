"""Pictures with captions: to find one by the other, or to choose the caption that fits."""

from functools import partial

from diptych.datasets.entry import EvaluationSet

_CREPE = {
    "add_att": "an attribute added",
    "add_obj": "an object added",
    "replace_att": "an attribute replaced",
    "replace_obj": "an object replaced",
    "replace_rel": "a relation replaced",
    "swap_att": "two attributes swapped",
    "swap_obj": "two objects swapped",
}


_retrieval = partial(EvaluationSet, kind="retrieval", metric="mean_recall", reader="captions")

PAIRS = (
    _retrieval(
        name="flickr8k",
        title="Flickr8k",
        sizes={"test": 1_000},
        mirrors=("flickr8k",),
        how_to_get="dataset_flickr8k.json (Karpathy) or flickr8k_test_karpathy.txt, and "
        "images/, in flickr8k/",
        licence="Flickr terms of use",
        source="Hodosh et al. 2013",
        note="5,000 captions",
    ),
    _retrieval(
        name="flickr30k",
        title="Flickr30k",
        sizes={"test": 1_000},
        mirrors=("flickr30k",),
        how_to_get="dataset_flickr30k.json (Karpathy) or flickr30k_test_karpathy.txt, and "
        "images/, in flickr30k/",
        licence="Flickr terms of use",
        source="Young et al. 2014",
        note="Karpathy's 1,000 of the test split, 5,000 captions",
    ),
    _retrieval(
        name="coco",
        title="COCO captions",
        sizes={"test": 5_000},
        mirrors=("mscoco_captions",),
        aliases=("mscoco", "coco2014", "coco-captions"),
        how_to_get="dataset_coco.json (Karpathy) or coco_test_karpathy.json, and val2014/, in "
        "coco/",
        licence="annotations CC BY 4.0; pictures Flickr terms of use",
        source="Lin et al. 2014 (arXiv:1405.0312)",
        note="Karpathy's 5,000, with 25,010 captions: a few pictures have six or seven",
    ),
    EvaluationSet(
        name="winoground",
        title="Winoground",
        kind="choice",
        sizes={"test": 800},
        metric="choice",
        reader="winoground",
        how_to_get="parquet of facebook/winoground (gated) in winoground/",
        licence="Meta's own terms",
        source="Thrush et al. 2022 (arXiv:2204.03162)",
        note="400 pairs of pictures, two samples each, whose keys are PAIR/0 and PAIR/1",
    ),
    *(
        EvaluationSet(
            name=f"sugarcrepe-{part.replace('_', '-')}",
            title=f"SugarCrepe, {words}",
            kind="choice",
            metric="choice",
            mirrors=(f"sugar_crepe/{part}",),
            reader="sugarcrepe",
            how_to_get=f"{part}.json of github.com/RAIVNLab/sugar-crepe and COCO's val2017/, "
            "in sugarcrepe/",
            licence="MIT (its captions)",
            source="Hsieh et al. 2023 (arXiv:2306.14610)",
            note="chance is 50 %; the seven parts together hold 7,511",
        )
        for part, words in _CREPE.items()
    ),
)
