"""Clips, of which the middle frame is scored (Radford et al. 2021, arXiv:2103.00020, appendix
A.1), or several frames (Sun et al. 2024, arXiv:2402.04252, table 5)."""

from diptych.datasets.entry import EvaluationSet


def _kinetics(classes: int, size: int, paper: str) -> EvaluationSet:
    return EvaluationSet(
        name=f"kinetics{classes}",
        title=f"Kinetics-{classes}",
        kind="video",
        classes=classes,
        sizes={"test": size},
        metric="mean_top1_top5",
        reader="clips",
        aliases=(f"k{classes}",),
        how_to_get="the clips of the validation split, one folder per class: "
        f"kinetics{classes}/val/CLASS/*.mp4",
        licence="annotations CC BY 4.0; each clip its own",
        source=paper,
        note="clips vanish from YouTube, so that copies differ; the size is that of the "
        "EVA-CLIP-18B paper",
    )


VIDEO = (
    EvaluationSet(
        name="ucf101",
        title="UCF-101",
        kind="video",
        classes=101,
        sizes={"test": 3_783, "test2": 3_734, "test3": 3_696, "all": 11_213},
        reader="ucf101",
        how_to_get="UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip of crcv.ucf.edu, "
        "unpacked in ucf101/",
        source="Soomro et al. 2012 (arXiv:1212.0402)",
        note="test is the first of three splits; EVA scores the three test lists together (`all`)",
    ),
    _kinetics(400, 19_240, "Kay et al. 2017 (arXiv:1705.06950)"),
    _kinetics(600, 29_788, "Carreira et al. 2018 (arXiv:1808.01340)"),
    _kinetics(700, 33_966, "Carreira et al. 2019 (arXiv:1907.06987)"),
)
