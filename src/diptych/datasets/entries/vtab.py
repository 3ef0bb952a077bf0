"""The rest of VTAB's 19 tasks (Zhai et al. 2019, arXiv:1910.04867), at CLIP_benchmark's test
splits."""

from functools import partial

from diptych.datasets.entry import EvaluationSet

_vtab = partial(EvaluationSet, source="Zhai et al. 2019 (arXiv:1910.04867)")

VTAB = (
    _vtab(
        name="svhn",
        title="SVHN",
        classes=10,
        sizes={"test": 26_032, "train": 73_257},
        mirrors=("vtab/svhn",),
        torchvision="SVHN",
        licence="non-commercial",
        source="Netzer et al. 2011",
        note="the VTAB mirror's train split holds less",
    ),
    _vtab(
        name="clevr-count",
        title="CLEVR count",
        classes=8,
        sizes={"test": 15_000},
        mirrors=("vtab/clevr_count_all",),
        licence="CC BY 4.0",
        note="label = count - 3",
    ),
    _vtab(
        name="clevr-distance",
        title="CLEVR closest distance",
        classes=6,
        sizes={"test": 15_000},
        mirrors=("vtab/clevr_closest_object_distance",),
        licence="CC BY 4.0",
        note="the name of the fourth class is empty, as published",
    ),
    _vtab(
        name="diabetic-retinopathy",
        title="Diabetic retinopathy",
        classes=5,
        sizes={"test": 42_670},
        mirrors=("vtab/diabetic_retinopathy",),
        how_to_get="Kaggle (login)",
        note="always naming the largest class scores 73 %",
    ),
    _vtab(name="dmlab", title="DMLab", classes=6, sizes={"test": 22_735}, mirrors=("vtab/dmlab",)),
    _vtab(
        name="dsprites-orientation",
        title="dSprites orientation",
        classes=40,
        sizes={"test": 73_728},
        mirrors=("vtab/dsprites_label_orientation",),
        licence="Apache-2.0",
        note="names are numbers of bins: chance by construction",
    ),
    _vtab(
        name="dsprites-x",
        title="dSprites x position",
        classes=32,
        sizes={"test": 73_728},
        mirrors=("vtab/dsprites_label_x_position",),
        licence="Apache-2.0",
        note="names are numbers of bins: chance by construction",
    ),
    _vtab(
        name="smallnorb-azimuth",
        title="SmallNORB azimuth",
        classes=18,
        sizes={"test": 12_150},
        mirrors=("vtab/smallnorb_label_azimuth",),
        note="names are numbers of bins: chance by construction",
    ),
    _vtab(
        name="smallnorb-elevation",
        title="SmallNORB elevation",
        classes=9,
        sizes={"test": 12_150},
        mirrors=("vtab/smallnorb_label_elevation",),
        note="names are numbers of bins: chance by construction",
    ),
    _vtab(
        name="kitti-distance",
        title="KITTI vehicle distance",
        classes=4,
        sizes={"test": 711},
        mirrors=("vtab/kitti_closest_vehicle_distance",),
        licence="CC BY-NC-SA 3.0",
        note="711 pictures: half of the 95 % interval is 3.4 points",
    ),
)
