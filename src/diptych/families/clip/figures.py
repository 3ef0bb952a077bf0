"""What open_clip's authors measured of weights that it knows by a tag.

https://github.com/mlfoundations/open_clip, docs/openclip_results.csv and
docs/openclip_retrieval_results.csv
"""

from diptych.families.entry import Claim, figures

_SOURCE = "open_clip's docs"

# Zero-shot top-1 on ImageNet, the mean of DataComp's 38 sets, recall@5 of COCO's pictures by texts,
# in per cent.
# fmt: off
FIGURES: dict[str, tuple[float | None, ...]] = {
    "RN50/yfcc15m":                       (32.38, 28.11, None),
    "RN50/cc12m":                         (35.91, 32.47, None),
    "RN50-quickgelu/yfcc15m":             (32.75, 27.76, None),
    "RN50-quickgelu/cc12m":               (36.47, 32.60, None),
    "RN50-quickgelu/openai":              (59.82, 48.10, None),
    "RN101/yfcc15m":                      (34.07, 29.88, None),
    "RN101-quickgelu/yfcc15m":            (34.87, 29.93, None),
    "RN101-quickgelu/openai":             (62.28, 50.33, None),
    "RN50x4/openai":                      (66.27, 51.88, 58.12),
    "RN50x16/openai":                     (70.72, 56.70, 60.02),
    "RN50x64/openai":                     (73.91, 60.61, 59.92),
    "ViT-B-32-quickgelu/openai":          (63.32, 52.45, 55.94),
    "ViT-B-32/laion400m_e31":             (60.22, 50.77, 60.01),
    "ViT-B-32/laion400m_e32":             (60.24, 50.74, 60.00),
    "ViT-B-32-quickgelu/laion400m_e31":   (62.94, 52.63, 61.00),
    "ViT-B-32-quickgelu/laion400m_e32":   (62.93, 52.72, 60.89),
    "ViT-B-32/laion2b_e16":               (65.65, 54.83, 64.67),
    "ViT-B-32/laion2b_s34b_b79k":         (66.56, 56.94, 65.43),
    "ViT-B-32/datacomp_xl_s13b_b90k":     (69.17, 57.95, 62.35),
    "ViT-B-32/datacomp_m_s128m_b4k":      (29.72, 32.81, None),
    "ViT-B-32/commonpool_m_clip_s128m_b4k":  (27.25, 32.78, None),
    "ViT-B-32/commonpool_m_image_s128m_b4k": (26.78, 31.18, None),
    "ViT-B-32/commonpool_m_text_s128m_b4k":  (25.48, 30.66, None),
    "ViT-B-32/commonpool_m_laion_s128m_b4k": (23.04, 29.19, None),
    "ViT-B-32/commonpool_m_basic_s128m_b4k": (22.55, 28.49, None),
    "ViT-B-32/commonpool_m_s128m_b4k":       (17.55, 25.80, None),
    "ViT-B-32/datacomp_s_s13m_b4k":          (3.92, 14.49, None),
    "ViT-B-32/commonpool_s_clip_s13m_b4k":   (5.05, 17.31, None),
    "ViT-B-32/commonpool_s_text_s13m_b4k":   (4.60, 15.73, None),
    "ViT-B-32/commonpool_s_image_s13m_b4k":  (3.92, 14.49, None),
    "ViT-B-32/commonpool_s_basic_s13m_b4k":  (3.77, 14.23, None),
    "ViT-B-32/commonpool_s_laion_s13m_b4k":  (3.05, 13.32, None),
    "ViT-B-32/commonpool_s_s13m_b4k":        (2.70, 14.20, None),
    "ViT-B-32-quickgelu/metaclip_400m":   (65.58, 53.87, 61.79),
    "ViT-B-32-quickgelu/metaclip_fullcc": (67.66, 55.77, 64.11),
    "ViT-B-32-256/datacomp_s34b_b86k":    (72.81, 60.87, 65.43),
    "ViT-B-16-quickgelu/openai":          (68.34, 56.26, 58.42),
    "ViT-B-16/laion400m_e31":             (66.98, 56.17, 63.66),
    "ViT-B-16/laion400m_e32":             (67.05, 56.21, 63.62),
    "ViT-B-16/laion2b_s34b_b88k":         (70.23, 58.66, 67.70),
    "ViT-B-16/datacomp_xl_s13b_b90k":     (73.49, 61.47, 65.95),
    "ViT-B-16/datacomp_l_s1b_b8k":        (63.10, 53.72, 57.47),
    "ViT-B-16/commonpool_l_clip_s1b_b8k":  (57.77, 52.94, None),
    "ViT-B-16/commonpool_l_laion_s1b_b8k": (55.26, 50.11, 57.56),
    "ViT-B-16/commonpool_l_image_s1b_b8k": (57.19, 48.12, None),
    "ViT-B-16/commonpool_l_text_s1b_b8k":  (56.05, 47.60, None),
    "ViT-B-16/commonpool_l_basic_s1b_b8k": (51.55, 45.85, None),
    "ViT-B-16/commonpool_l_s1b_b8k":       (45.93, 43.70, None),
    "ViT-B-16/dfn2b":                     (76.24, 60.92, None),
    "ViT-B-16-quickgelu/metaclip_400m":   (70.80, 57.85, 65.36),
    "ViT-B-16-quickgelu/metaclip_fullcc": (72.12, 60.41, 67.18),
    "ViT-B-16-plus-240/laion400m_e31":    (69.04, 57.13, 66.04),
    "ViT-B-16-plus-240/laion400m_e32":    (69.19, 57.24, 66.19),
    "ViT-L-14-quickgelu/openai":          (75.54, 61.73, 61.06),
    "ViT-L-14-336-quickgelu/openai":      (76.56, 62.84, 61.62),
    "ViT-L-14/laion400m_e31":             (72.71, 59.64, 67.97),
    "ViT-L-14/laion400m_e32":             (72.77, 59.71, 68.03),
    "ViT-L-14/laion2b_s32b_b82k":         (75.25, 62.05, 71.08),
    "ViT-L-14/datacomp_xl_s13b_b90k":     (79.21, 66.27, 70.03),
    "ViT-L-14/commonpool_xl_clip_s13b_b90k":  (76.37, 65.01, 67.61),
    "ViT-L-14/commonpool_xl_laion_s13b_b90k": (75.45, 63.60, 71.42),
    "ViT-L-14/commonpool_xl_s13b_b90k":       (72.29, 62.07, 63.10),
    "ViT-L-14-quickgelu/metaclip_400m":   (76.20, 62.52, 68.62),
    "ViT-L-14-quickgelu/metaclip_fullcc": (79.17, 65.92, 71.41),
    "ViT-L-14-quickgelu/dfn2b":           (81.41, 66.87, None),
    "ViT-H-14/laion2b_s32b_b79k":         (77.96, 64.19, 73.38),
    "ViT-H-14-quickgelu/metaclip_fullcc": (80.51, 66.71, 73.23),
    "ViT-H-14-quickgelu/dfn5b":           (83.44, 69.61, None),
    "ViT-H-14-378-quickgelu/dfn5b":       (84.37, 70.79, None),
    "ViT-g-14/laion2b_s12b_b42k":         (76.63, 62.99, 72.38),
    "ViT-g-14/laion2b_s34b_b88k":         (78.47, 64.27, 73.34),
    "ViT-bigG-14/laion2b_s39b_b160k":     (80.09, 66.67, 74.90),
    "convnext_base/laion400m_s13b_b51k":  (66.27, 55.76, 63.15),
    "convnext_base_w/laion2b_s13b_b82k":  (70.78, 57.61, 68.05),
    "convnext_base_w/laion2b_s13b_b82k_augreg":     (71.47, 58.35, 67.86),
    "convnext_base_w/laion_aesthetic_s13b_b82k":    (70.99, 57.66, 68.58),
    "convnext_base_w_320/laion_aesthetic_s13b_b82k":        (71.67, 56.65, 69.20),
    "convnext_base_w_320/laion_aesthetic_s13b_b82k_augreg": (71.28, 58.69, 67.22),
    "convnext_large_d/laion2b_s26b_b102k_augreg":           (75.91, 62.94, 71.39),
    "convnext_large_d_320/laion2b_s29b_b131k_ft":           (76.60, 63.45, 72.32),
    "convnext_large_d_320/laion2b_s29b_b131k_ft_soup":      (76.85, 63.87, 72.51),
    "convnext_xxlarge/laion2b_s34b_b82k_augreg":            (79.07, 64.79, 74.00),
    "convnext_xxlarge/laion2b_s34b_b82k_augreg_rewind":     (79.31, 65.21, 74.07),
    "convnext_xxlarge/laion2b_s34b_b82k_augreg_soup":       (79.47, 65.30, 74.03),
}
# fmt: on


def measured(label: str) -> tuple[Claim, ...]:
    """Of the weights `model/tag`; empty: nothing.

    >>> from diptych.families.clip.figures import measured
    >>> [claim.value for claim in measured("ViT-B-32/laion2b_s34b_b79k")]
    [66.56, 56.94, 65.43]
    """
    return figures(FIGURES.get(label, ()), _SOURCE)
