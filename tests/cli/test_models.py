"""`diptych models`."""

import json
import sys

import pytest

from diptych import pretrained
from diptych.cli import main


def output(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as error:
        main(["models", *words])
    assert error.value.code == 0
    return capsys.readouterr().out


def squeezed(line: str) -> str:
    return " ".join(line.split())


def test_sizes_weights_and_claims(capsys):
    text = output(capsys, "vit-b-32*")
    lines = [squeezed(line) for line in text.splitlines()]
    assert lines[0] == "name size towers parameters GFLOPs licence of the weights"
    assert lines[1] == "vit-b-32 224 image, text 151.28 M 14.78 —"
    start = lines.index("vit-b-32-quickgelu 224 image, text 151.28 M 14.78 MIT")
    assert lines[start + 1 : start + 4] == [
        "weights hf-hub:timm/vit_base_patch32_clip_224.openai",
        "hf-hub:openai/clip-vit-base-patch32",
        "claimed imagenet1k zero-shot top-1 63.2 (arXiv:2103.00020, Table 11)",
    ]
    assert "imagenet1k zero-shot top-1 63.32, mean of DataComp's 38 sets 52.45" in lines[start + 4]


def test_a_model_without_a_tag_says_which_weights_there_are(capsys):
    text = squeezed(output(capsys, "vit-b-32*"))
    best = ("67.66, DataComp-38 55.77, COCO 64.11", "69.17, DataComp-38 57.95, COCO 62.35")
    for name, figures in zip(("quickgelu/metaclip_fullcc", "datacomp_xl_s13b_b90k"), best):
        assert f"{name}: ImageNet {figures}" in text
    assert "… and 18 more: diptych models vit-b-32" in text
    assert text.count("ViT-B-32/") == 3
    whole = squeezed(output(capsys, "ViT-B-32"))
    assert whole.count("ViT-B-32/") == 21
    assert whole.index("ViT-B-32/datacomp_xl") < whole.index("ViT-B-32/laion2b_s34b")


def test_every_eva_with_its_true_size(capsys):
    lines = output(capsys, "EVA*").splitlines()
    rows = [squeezed(line) for line in lines if line.startswith("eva")]
    assert len(rows) == 17
    for begins in (
        "eva-clip-8b 224 image, text 8.22 B ",
        "eva-clip-8b-448 448 image, text 8.22 B ",
        "eva-clip-18b 224 image, text 18.33 B ",
        "eva02-clip-b-16 224 image, text 149.69 M 41.",
        "eva02-l-psz14 224 image 303.27 M ",
    ):
        assert len([row for row in rows if row.startswith(begins)]) == 1, begins
    assert max(map(len, lines)) <= 100


def test_claims_stand_beside_their_sources(capsys):
    text = output(capsys, "eva02-clip-l*")
    assert "hf-hub:QuanSun/EVA-CLIP/EVA02_CLIP_L_336_psz14_s6B.pt\n" in text
    assert "hf-hub:timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k\n" in text
    assert (
        "imagenet1k zero-shot top-1 80.4, coco text-to-image R@5 71.7 (EVA-CLIP's model card)"
        in text
    )
    assert (
        "imagenet1k zero-shot top-1 80.39, coco text-to-image R@5 71.7 (open_clip's docs)" in text
    )


def test_one_model_by_any_of_its_names_gets_everything(capsys):
    text = output(capsys, "EVA_CLIP_8B_psz14_plus_s0.6B.pt")
    lines = text.splitlines()
    assert lines[1].startswith("eva-clip-8b-448  ")
    assert squeezed(lines[2]) == "also called EVA-CLIP-8B-plus"
    for said in (
        "fixed at 100",
        "eva, fp32, 32.9 GB, MIT / Apache-2.0",
        "Holds no logit scale",
        "retrieval mean recall 86.4",
        "image: 7.53 B, ",
        "text: 694.66 M, ",
        "norm_place='pre'",
        "embed_dim=1280, ",
        "logit_scale=4.605170185988092",
        "resize='shortest'",
    ):
        assert said in squeezed(text)
    assert max(map(len, lines)) <= 100


def test_for_other_programs(capsys):
    [record] = json.loads(output(capsys, "EVA02_L_psz14", "--json"))
    assert (record["name"], record["config"]["type"]) == ("eva02-l-psz14", "EvaConfig")
    assert record["weights"][0]["file"] == "EVA02_L_psz14.pt"
    assert record["sizes"]["image"] == record["sizes"]["all"]
    assert record["sizes"]["all"]["parameters"] == 303268800


def test_no_match_gets_near_misses(capsys):
    for name, near in (("vit-b-23", "vit-b-32"), ("EVA02-CLIP-L-14-366", "eva02-clip-l-14-336")):
        with pytest.raises(SystemExit) as error:
            main(["models", name])
        assert error.value.code == 2
        assert f"did you mean '{near}'" in capsys.readouterr().err


def test_a_card_says_how_the_weights_came_about(capsys):
    card = " ".join(output(capsys, "eva-clip-18b").split())
    for said in ("seen 6 B", "batch 108K", "precision bf16", "image init eva-18b-psz14"):
        assert said in card
    assert "text init eva02-clip-e-14-plus" in card
    assert "teacher eva02-clip-e-14-plus" in output(capsys, "eva-18b-psz14")
    assert "epochs 32; batch 4096" in " ".join(output(capsys, "yfcc15m_vit_declip").split())
    [record] = json.loads(output(capsys, "eva02-clip-b-16", "--json"))
    assert record["training"]["batch"] == "131K"


def test_what_a_model_started_from_is_a_model_or_somebody_elses():
    for name in pretrained.names():
        training = pretrained.entry(name).training
        for start in (training.image_init, training.text_init, training.teacher):
            if not start.startswith(("OpenAI's", "OpenCLIP's", "Hugging Face's")) and start:
                assert pretrained.entry(start).name == start


def test_lines_are_sorted_and_kept_within_bounds(capsys):
    text = output(capsys, "mobileclip*", "--sort", "imagenet", "--under", "100M")
    names = [line.split()[0] for line in text.splitlines() if "apple-amlr" in line]
    assert names[:2] == ["mobileclip2-s2/dfndr2b", "apple/MobileCLIP2-S2"]
    assert names[-1] == "apple/MobileCLIP-S0"
    assert len(names) == 9
    assert "fast on a CPU (below 12 GFLOPs): mobileclip2-s0/dfndr2b (imagenet 71.5)" in text
    few = output(capsys, "mobileclip*", "--sort", "gflops", "--gflops", "11", "--json")
    assert json.loads(few)[0]["name"] == "apple/MobileCLIP-S0"
    assert all(row["gflops"] <= 11 for row in json.loads(few))


def test_licences_and_languages(capsys):
    text = output(capsys, "vit-[hb]-14*", "--licence", "mit*")
    assert "ViT-H-14/laion2b_s32b_b79k" in text
    assert "metaclip" not in text
    assert "dfn" not in text
    text = output(capsys, "vit-b-16-siglip*", "--sort", "coco")
    assert "texts in many languages: vit-b-16-siglip2-512/webli (imagenet 81.2)" in text
    assert "within these bounds" in output(capsys, "vit-b-32", "--licence", "GPL*")


@pytest.mark.parametrize("bound", ["small", "B", "nan", "nanM", "-5", "0", "inf", "1e400", "2BB"])
def test_a_bound_that_is_no_number_is_said(bound, capsys):
    with pytest.raises(SystemExit) as error:
        main(["models", "vit-b-32", "--under", bound])
    assert error.value.code == 2
    assert f"--under {bound} is no number such as 150M or 1B" in capsys.readouterr().err


def test_claims_of_several_files_say_of_which(capsys):
    text = squeezed(output(capsys, "coca-vit-l-14"))
    for repo, top_1 in (("CoCa", 75.64), ("mscoco_finetuned_CoCa", 72.1)):
        address = f"hf-hub:laion/{repo}-ViT-L-14-laion2B-s13B-b90k"
        assert f"{address}: imagenet1k zero-shot top-1 {top_1} (open_clip" in text
    # Two files of the same weights: said once.
    assert squeezed(output(capsys, "mobileclip-s1")).count("zero-shot top-1 72.6") == 1


def test_columns_stand_below_their_heads(capsys):
    for names in ("coca*", "vit-l-14*"):
        head, *lines = output(capsys, names).splitlines()
        rows = [line for line in lines if not line.startswith(" ")]
        end = head.index("parameters") + len("parameters")
        assert {row[end - 2 : end] for row in rows} == {" M"}


def test_models_whose_texts_another_library_reads(capsys, monkeypatch):
    """With it and without it."""
    pytest.importorskip("transformers")
    row = squeezed(output(capsys, "nllb-clip-base").splitlines()[1])
    assert row == "nllb-clip-base 224 image, text 501.89 M 32.36 CC-BY-NC-4.0"
    monkeypatch.setitem(sys.modules, "transformers", None)
    row = squeezed(output(capsys, "nllb-clip-base").splitlines()[1])
    assert row == "nllb-clip-base 224 image, text 501.89 M 32.36 CC-BY-NC-4.0"


def test_a_decoder_is_counted(capsys):
    lines = [squeezed(line) for line in output(capsys, "coca-vit-b-32").splitlines()]
    assert lines[1].startswith("coca-vit-b-32 224 image, text, decoder 253.56 M")
    assert any("decoder: 100.97 M" in line for line in lines)


def test_a_card_says_hardware_use_and_who_says_so(capsys):
    card = squeezed(output(capsys, "vit-l-14-openai"))
    for said in ("batch 32,768", "precision fp16, mixed", "hardware 256 V100, 12 days"):
        assert said in card
    assert "use research; deployed uses are out of scope" in card
    assert "source arXiv:2103.00020" in card
    mim = squeezed(output(capsys, "eva01-g-psz14"))
    assert "epochs 150; batch 4096; hardware 128 GPUs" in mim
    assert "teacher OpenAI's CLIP L/14" in mim


def test_weights_of_a_tag_have_a_card_of_their_own(capsys):
    card = squeezed(output(capsys, "ViT-bigG-14/laion2b_s39b_b160k"))
    assert "weights hf-hub:laion/CLIP-ViT-bigG-14-laion2B-39B-b160k" in card
    assert "trained data LAION-2B, its English pairs; seen 39 B; batch 160K" in card
    assert "hardware 512 A100 of 80 GB" in card


def test_json_has_the_training_of_every_tag(capsys):
    [record] = json.loads(output(capsys, "ViT-B-32", "--json"))
    found = record["tagged"]["ViT-B-32/commonpool_s_clip_s13m_b4k"]["training"]
    wanted = ("CommonPool, 12.8 M pairs, filtered by CLIP's score", "13 M", "4K", "")
    assert tuple(found[name] for name in ("data", "seen", "batch", "epochs")) == wanted
    assert record["tagged"]["ViT-B-32/laion400m_e32"]["training"]["epochs"] == "32"
    [record] = json.loads(output(capsys, "eva-clip-8b", "--json"))
    assert record["training"]["hardware"] == "384 A100 of 40 GB"
    assert record["training"]["image_init"] == "eva-8b-psz14"


def test_every_published_file_has_a_card_with_data():
    bare = []
    for name in pretrained.names():
        for label, _ in pretrained.published(pretrained.entry(name)):
            if not pretrained.entry(label).training.says:
                bare.append(label)
    # Classifiers that their authors say nothing of.
    assert {name for name in bare if not name.startswith("unireplknet")} == set()
