"""ImageNet and the sets that ask how well it carries over. Classes are known by their WordNet
ids."""

from diptych.datasets.entry import EvaluationSet

IMAGENET = (
    EvaluationSet(
        name="imagenet1k",
        title="ImageNet-1K",
        classes=1000,
        sizes={"test": 50_000, "train": 1_281_167},
        mirrors=("imagenet1k",),
        aliases=(
            "imagenet",
            "ilsvrc2012",
            "ilsvrc",
            "in-1k",
            "imagenet2012",
            "imagenet-ilsvrc2012",
        ),
        reader="imagenet-flat",
        how_to_get="image-net.org (login); one folder per WordNet id in imagenet1k/val and "
        "imagenet1k/train",
        licence="research only (image-net.org terms)",
        source="Russakovsky et al. 2015 (arXiv:1409.0575)",
        note="the validation pictures are what everybody calls the test; the names missile "
        "and sunglasses occur twice",
    ),
    EvaluationSet(
        name="imagenet-v2",
        title="ImageNet-V2",
        classes=1000,
        sizes={"test": 10_000},
        prompts="imagenet1k",
        mirrors=("imagenetv2",),
        aliases=(
            "imagenetv2-matched-frequency-format-val",
            "imagenetv2-matched-frequency",
            "in-v2",
        ),
        how_to_get="imagenetv2-matched-frequency.tar.gz of "
        "huggingface.co/datasets/vaishaal/ImageNetV2",
        licence="MIT (its repository)",
        source="Recht et al. 2019 (arXiv:1902.10811)",
        note="the matched-frequency variant; its folders are the class numbers 0 to 999",
    ),
    EvaluationSet(
        name="imagenet-a",
        title="ImageNet-A",
        classes=200,
        sizes={"test": 7_500},
        mirrors=("imagenet-a",),
        aliases=("imagenet-adversarial", "in-a"),
        how_to_get="imagenet-a.tar of github.com/hendrycks/natural-adv-examples: one folder "
        "per WordNet id",
        licence="MIT (its repository)",
        source="Hendrycks et al. 2021 (arXiv:1907.07174)",
        note="a classifier of its 200 classes, not of all 1000",
    ),
    EvaluationSet(
        name="imagenet-r",
        title="ImageNet-R",
        classes=200,
        sizes={"test": 30_000},
        mirrors=("imagenet-r",),
        aliases=("imagenet-rendition", "imagenet-renditions", "in-r"),
        how_to_get="imagenet-r.tar of github.com/hendrycks/imagenet-r: one folder per WordNet id",
        licence="MIT (its repository)",
        source="Hendrycks et al. 2021 (arXiv:2006.16241)",
        note="a classifier of its 200 classes, not of all 1000",
    ),
    EvaluationSet(
        name="imagenet-sketch",
        title="ImageNet-Sketch",
        classes=1000,
        sizes={"test": 50_889},
        prompts="imagenet1k",
        mirrors=("imagenet_sketch",),
        aliases=("in-sketch",),
        how_to_get="the zip of github.com/HaohanWang/ImageNet-Sketch: one folder per WordNet id",
        licence="MIT (its repository)",
        source="Wang et al. 2019 (arXiv:1905.13549)",
        note="the EVA-CLIP-18B paper's 50,899 is a misprint",
    ),
    EvaluationSet(
        name="objectnet",
        title="ObjectNet",
        classes=113,
        sizes={"test": 18_574},
        mirrors=("objectnet",),
        reader="objectnet",
        how_to_get="objectnet-1.0.zip of objectnet.dev, unpacked with its mappings in "
        "objectnet/objectnet-1.0",
        licence="evaluation only: no tuning on it; the red border must be removed (objectnet.dev)",
        source="Barbu et al. 2019 (NeurIPS)",
        note="the 113 classes that ImageNet has too; for EVA-CLIP-18B resize moves it by 6 points",
    ),
)
