"""A command line of open_clip_train.main becomes a Run, and that the command that is printed."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from diptych import recipes
from diptych.cli.train import new_run
from diptych.compat.open_clip_train.command import script_of, words_of
from diptych.compat.open_clip_train.main import main
from diptych.compat.open_clip_train.options import LATER, MAINS, OWN, Options
from diptych.compat.open_clip_train.params import parse_args
from diptych.compat.open_clip_train.parse import flag_of, parse, table
from diptych.compat.open_clip_train.translate import RECIPE, translate
from diptych.config import (
    ClipObjectiveConfig,
    CocaObjectiveConfig,
    DistillObjectiveConfig,
    Run,
    SiglipObjectiveConfig,
)
from diptych.config.serialize import difference
from diptych.errors import ConfigError, UnknownNameError
from diptych.training import load_run, read_metrics
from diptych.training.assemble import described
from tests import tiny

CSV = ("--train-data", "a.csv", "--model", "ViT-B-32")
TARS = ("--train-data", "a/{0..9}.tar", "--model", "ViT-B-32")


def translated(*words: str, processes: int = 1, gpu: bool = True):
    options, _ = parse(words)
    return translate(options, processes, gpu)


def run_of(*words: str, processes: int = 1, gpu: bool = True) -> Run:
    return translated(*words, processes=processes, gpu=gpu).run


def value(run: Run, path: str):
    for name in path.split("."):
        run = getattr(run, name)
    return run


CASES = [
    ("--train-data b.tsv", "data.path", "b.tsv"),
    ("--train-data x.txt --dataset-type csv", "data.path", "x.txt"),
    ("--dataset-type synthetic --train-num-samples 70", "data.path", "synthetic:70"),
    ("--val-data v.csv", "evaluation.pairs", "v.csv"),
    ("--val-data v.csv --val-frequency 3", "evaluation.every_epochs", 3.0),
    ("--val-data v.csv --val-frequency 0", "evaluation.pairs", ""),
    ("--csv-separator ,", "data.separator", ","),
    ("--csv-img-key jpg", "data.image_key", "jpg"),
    ("--csv-caption-key cap", "data.caption_key", "cap"),
    ("--imagenet-val in", "evaluation.path", "in"),
    ("--imagenet-val in", "evaluation.templates", ("openai-80",)),
    ("--imagenet-v2 v2", "evaluation.path", "v2"),
    ("--imagenet-val in --imagenet-v2 v2", "evaluation.path", ("in", "v2")),
    ("--imagenet-val in", "evaluation.every_epochs", 2.0),
    ("--imagenet-val in --zeroshot-frequency 5", "evaluation.every_epochs", 5.0),
    ("--logs here --name it", "out", "here/it"),
    ("--workers 0", "data.workers", 0),
    ("--batch-size 32", "batch_size", 32),
    ("--epochs 3", "epochs", 3.0),
    ("--lr 1e-3", "optim.lr", 1e-3),
    ("--beta1 .8", "optim.betas", (0.8, 0.98)),
    ("--beta2 .9", "optim.betas", (0.9, 0.9)),
    ("--eps 1e-7", "optim.eps", 1e-7),
    ("--wd 0.1", "optim.weight_decay", 0.1),
    ("--opt timm/sgd --lr 1 --momentum .5", "optim.momentum", 0.5),
    ("--opt timm/lamb --lr 1", "optim.name", "lamb"),
    ("--warmup 7", "optim.warmup", 7),
    ("--skip-scheduler", "optim.schedule", "constant"),
    ("--skip-scheduler", "optim.warmup", 0),
    ("--lr-scheduler const", "optim.schedule", "constant"),
    ("--lr-scheduler const-cooldown --epochs-cooldown 8", "optim.cooldown", 0.25),
    (
        "--lr-scheduler const-cooldown --epochs-cooldown 8 --lr-cooldown-end 1e-5",
        "optim.final_lr",
        1e-5,
    ),
    (
        "--lr-scheduler const-cooldown --epochs-cooldown 8 --lr-cooldown-power 2",
        "optim.cooldown_power",
        2.0,
    ),
    ("--save-frequency 4", "save.every_epochs", 4.0),
    ("--save-frequency 4 --save-most-recent", "save.every_epochs", 1.0),
    ("--save-frequency 0 --save-most-recent", "save.keep", 1),
    ("--delete-previous-checkpoint", "save.keep", 1),
    ("--precision fp32", "precision", "fp32"),
    ("--precision amp_bfloat16", "precision", "bf16"),
    ("--model RN50", "model.name", "RN50"),
    ("--model hf-hub:me/mine", "model.init", "hf-hub:me/mine"),
    ("--pretrained laion2b_s34b_b79k", "model.init", "ViT-B-32/laion2b_s34b_b79k"),
    ("--pretrained openai", "model.init", "ViT-B-32-openai"),
    ("--lock-image", "model.image.freeze", True),
    ("--lock-image --lock-image-unlocked-groups 2", "model.image.unlocked_layers", 2),
    ("--lock-text", "model.text.freeze", True),
    ("--lock-text --lock-text-unlocked-layers 3", "model.text.unlocked_layers", 3),
    ("--image-mean .5 .4 .3", "model.custom.preprocess.mean", (0.5, 0.4, 0.3)),
    ("--image-std .5", "model.custom.preprocess.std", (0.5, 0.5, 0.5)),
    ("--image-interpolation bilinear", "model.custom.preprocess.interpolation", "bilinear"),
    ("--image-resize-mode squash", "model.custom.preprocess.resize", "squash"),
    ("--force-quick-gelu", "model.custom.text.activation", "quick_gelu"),
    ("--force-context-length 32", "model.custom.text.context_length", 32),
    ("--force-image-size 96 96", "model.image.size", 96),
    ("--force-patch-dropout .5", "model.image.patch_dropout", 0.5),
    ("--aug-cfg scale=(0.4,1.0) use_timm=False", "data.augment.scale", (0.4, 1.0)),
    ("--grad-checkpointing", "model.image.checkpointing", True),
    ("--grad-checkpointing", "model.text.checkpointing", True),
    ("--torchcompile", "compile", True),
    ("--accum-freq 4", "batch_size", 256),
    ("--accum-freq 4", "micro_batch", 64),
    ("--report-to tensorboard", "track.tensorboard", True),
    ("--report-to wandb --wandb-project-name p", "track.wandb", "p"),
    ("--report-to all", "track.wandb", "open-clip"),
    ("--seed 5", "seed", 5),
    ("--grad-clip-norm 1", "optim.max_norm", 1.0),
    ("--log-every-n-steps 9", "track.every_steps", 9),
    ("--siglip", "objective", SiglipObjectiveConfig()),
    (
        "--distill-model ViT-L-14 --distill-pretrained openai",
        "objective",
        DistillObjectiveConfig(
            teachers=("ViT-L-14-openai",), pairs_weight=1.0, form="cross_entropy"
        ),
    ),
    ("--model coca_ViT-B-32", "model.name", "coca_ViT-B-32"),
    ("--model coca_ViT-B-32", "objective", CocaObjectiveConfig()),
    ("--model local-dir:my-coca", "objective", CocaObjectiveConfig()),
    (
        "--model coca_ViT-B-32 --coca-caption-loss-weight 1 --coca-contrastive-loss-weight 0",
        "objective",
        CocaObjectiveConfig(pairs_weight=0.0, captions_weight=1.0),
    ),
    (
        "--model coca_ViT-B-32 --coca-caption-loss-weight 0",
        "objective",
        ClipObjectiveConfig(),
    ),
    ("--image-layer-decay .8", "model.image.layer_decay", 0.8),
    ("--text-layer-decay .7", "model.text.layer_decay", 0.7),
    ("--opt-kwargs betas=(.8,.9)", "optim.betas", (0.8, 0.9)),
    ("--fsdp", "shard.mode", "zero3"),
    ("--fsdp --fsdp-no-reshard-after-forward", "shard.mode", "zero2"),
    ("--fsdp --fsdp-offload-cpu", "shard.offload", True),
]


@pytest.mark.parametrize(("words", "path", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_flag_becomes_a_setting(words, path, wanted):
    assert value(run_of(*CSV, *shlex.split(words)), path) == wanted


COMMANDS = [
    "--precision fp32 --val-data v.csv --report-to all --siglip --torchcompile --accum-freq 4",
    "--imagenet-val in --imagenet-v2 v2 --lock-image --lock-image-unlocked-groups 2 --workers 0",
    "--distill-model ViT-L-14 --distill-pretrained openai --pretrained laion2b_s34b_b79k --fsdp",
    "--lr-scheduler const-cooldown --epochs-cooldown 8 --lr-cooldown-end 1e-5 --csv-separator ,",
    "--train-data a.tar --train-num-samples 9000 --dataset-resampled --opt timm/sgd --lr 1",
    "--aug-cfg scale=(0.4,1.0) --skip-scheduler --grad-clip-norm 1 --force-image-size 96",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_that_is_printed_gives_the_same_run(words):
    run = run_of(*CSV, *shlex.split(words))
    recipe, *flags = words_of(run, RECIPE)
    assert difference(new_run(recipe, flags), run) == {}


SHARDS = [
    ("--dataset-resampled", "data.resample", True),
    (
        "--train-data a.tar::b.tar --dataset-resampled --train-data-upsampling-factors 1::.5",
        "data.upsample",
        (1.0, 0.5),
    ),
    ("", "data.caption_key", "txt"),
    ("--image-key png", "data.image_key", "png"),
    ("--text-key cap", "data.caption_key", "cap"),
    ("--json-text-key re", "data.caption_key", "re"),
]


@pytest.mark.parametrize(("words", "path", "wanted"), SHARDS)
def test_a_flag_of_shards_becomes_a_setting(words, path, wanted):
    assert value(run_of(*TARS, *shlex.split(words)), path) == wanted


def test_an_epoch_of_shards_has_open_clips_number_of_steps():
    """1000 samples by 8 x 4 are 32 batches, for 5 loader processes 35, by 2 accumulated 17."""
    words = "--train-num-samples 1000 --batch-size 8 --workers 5 --accum-freq 2 --epochs 3"
    run = run_of(*TARS, *words.split(), "--imagenet-val", "in", processes=4)
    assert (run.steps, run.epochs, run.batch_size, run.micro_batch) == (51, 0, 64, 8)
    assert (run.save.every_steps, run.evaluation.every_steps) == (17, 34)


def test_the_defaults_are_open_clips():
    run = run_of(*CSV)
    assert (run.batch_size, run.epochs, run.optim.warmup, run.seed) == (64, 32.0, 10000, 0)
    assert (run.optim.lr, run.optim.betas, run.optim.eps) == (5e-4, (0.9, 0.98), 1e-6)
    assert (run.data.separator, run.data.image_key, run.data.caption_key) == (
        "\\t",
        "filepath",
        "title",
    )
    assert (run.optim.schedule, run.optim.weight_decay, run.precision) == ("cosine", 0.2, "fp16")
    assert run_of(*CSV, gpu=False).precision == "bf16"
    other = run_of("--train-data", "a.csv").optim
    assert (other.betas, other.eps) == ((0.9, 0.999), 1e-8)


REFUSED = [
    ("--horovod", "--horovod can't be honoured: processes are started by torchrun"),
    ("--trace", "a traced model can't be trained"),
    ("--pretrained-image", "--model.image.init"),
    ("--use-bnb-linear x", "bitsandbytes"),
    ("--remote-sync s3://x", "nothing is copied elsewhere"),
    ("--no-set-device-rank", "all GPUs"),
    ("--use-naflex", "--data.patches 128 256 576"),
    ("--wd-exclude a", "no counterpart"),
    ("--model RN50 --text-attention-mask", "--model RN50 takes no mask from a batch"),
    ("--precision pure_bf16", "--precision amp_bf16 computes in half"),
    ("--precision fp16", "--precision amp computes in half"),
    ("--resume epoch_5.pt", "--pretrained epoch_5.pt"),
    ("--logs None", "a run is always saved"),
    ("--dist-url tcp://h:1", "start them with torchrun"),
    ("--device cuda:1", "CUDA_VISIBLE_DEVICES"),
    ("--device cpu", "hide the GPUs"),
    ("--aug-cfg color_jitter=0.4", "color_jitter=0.4 has no counterpart"),
    ("--aug-cfg scale", "no KEY=VALUE"),
    ("--image-interpolation random", "choose bicubic"),
    ("--image-mean 1 2", "one number or three"),
    ("--force-image-size 64 96", "towers take squares"),
    ("--opt timm/lamb", "needs --lr"),
    ("--opt timm/lion --lr 1 --eps 1", "--eps 1.0 is nothing that lion uses"),
    ("--momentum 0.9", "--momentum 0.9 is nothing that adamw uses"),
    ("--opt timm/lamb --lr 1 --beta1 .9", "said together"),
    ("--lr-scheduler const-cooldown", "needs --epochs-cooldown"),
    ("--lr-scheduler const-cooldown --epochs-cooldown 40", "must not be more than --epochs 32"),
    ("--distill-model ViT-L-14", "said together"),
    ("--siglip --distill-model ViT-L-14 --distill-pretrained openai", "open_clip can't"),
    ("--model coca_ViT-B-32 --siglip", "open_clip can't"),
    (
        "--model coca_ViT-B-32 --coca-caption-loss-weight 0 --coca-contrastive-loss-weight 2",
        "without captions (--coca-caption-loss-weight 0) the contrast weighs 1",
    ),
    (
        "--model coca_ViT-B-32 --distill-model ViT-L-14 --distill-pretrained openai",
        "--model coca_ViT-B-32 beside --distill-model: open_clip can't",
    ),
    ("--model coca_ViT-B-33", "did you mean 'coca-vit-b-32'"),
    ("--train-data a.zip", "--dataset-type webdataset or csv"),
    ("--dataset-type synthetic", "needs --train-num-samples"),
    ("--train-data-upsampling-factors 1::2", "needs --dataset-resampled"),
    ("--dataset-resampled --train-data-upsampling-factors a", "numbers joined by ::"),
    ("--batch-size x", "argument --batch-size: invalid int value"),
    ("--lr 0", "--lr 0.0 must be"),
    ("--wd -1", "--wd -1.0 must be"),
    ("--force-image-size 0", "--force-image-size 0 must be"),
    ("--image-std 1 0 1", "--image-std (1.0, 0.0, 1.0): 0.0 must be"),
    ("--val-frequency -1", "--val-frequency -1 must be"),
    ("--name a/../../b", "--name a/../../b leads out of --logs"),
    ("--name /elsewhere", "--name /elsewhere leads out of --logs"),
    ("--train-data a.tar --train-num-samples 9 --batch-size 0", "--batch-size 0 must be"),
    ("--train-data a.tar --train-num-samples 9 --accum-freq 0", "--accum-freq 0 must be"),
    ("--train-data a.tar --train-num-samples -9", "--train-num-samples -9 must be"),
    ("--epochs 0 --lr-scheduler const-cooldown --epochs-cooldown 0", "--epochs 0 must be"),
    ("--aug-cfg scale=3", "--aug-cfg scale=3 must be two numbers"),
    ("--aug-cfg ratio=wide", "--aug-cfg ratio=wide must be two numbers"),
    ("--dry-run --processes 0", "--processes 0 must be"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_would_train_otherwise_is_refused_in_a_sentence(words, said):
    with pytest.raises(ConfigError) as error:
        run_of(*CSV, *shlex.split(words))
    assert said in str(error.value)


UNKNOWN = [
    ("--batch-sizes 3", "did you mean '--batch-size'"),
    ("--opt sgd", "timm/sgd"),
    ("--opt timm/nadam --lr 1", "'timm/adamw'"),
    ("--lr-scheduler cosin", "'cosine'"),
    ("--report-to wandbb", "'wandb'"),
    ("--model ViT-B-33", "'vit-b-32'"),
    ("--pretrained laion2b_s34b_b79", "laion2b_s34b_b79k"),
]


@pytest.mark.parametrize(("words", "said"), UNKNOWN)
def test_a_name_that_nothing_has_is_told_what_is_near(words, said):
    with pytest.raises(UnknownNameError) as error:
        run_of(*CSV, *shlex.split(words))
    assert said in str(error.value)


def test_without_training_data_the_command_that_evaluates_is_named():
    with pytest.raises(ConfigError, match="diptych evaluate ViT-B-32-openai --tasks imagenet1k"):
        run_of("--model", "ViT-B-32", "--pretrained", "openai", "--imagenet-val", "x")


@pytest.mark.parametrize("flag", ["--pretrained", "--resume"])
def test_a_checkpoint_is_evaluated_by_either_flag(tmp_path, flag):
    (tmp_path / "epoch_5.pt").touch()
    place = str(tmp_path / "epoch_5.pt")
    said = (
        f"diptych evaluate {re.escape(place)} --data pairs.csv`.* --config RN50` if it doesn't say"
    )
    with pytest.raises(ConfigError, match=said):
        run_of("--model", "RN50", flag, place, "--val-data", "pairs.csv")


def test_what_changes_no_number_is_remarked():
    _, remarks = parse([*CSV, "--debug", "--wandb-notes", "x", "--length-bucketing"])
    assert [each.partition(" is")[0] for each in remarks] == [
        "--wandb-notes",
        "--debug",
        "--length-bucketing",
    ]
    said = translated(*CSV, "--lock-text-unlocked-layers", "2", processes=2).remarks
    assert "without --gather-with-grad open_clip's gradient" in said[0]
    assert "--lock-text-unlocked-layers has no effect without --lock-text" in said[1]


def test_a_mask_of_padding_is_said_or_left_to_the_model():
    for word, wanted in (("--text-attention-mask", True), ("--no-text-attention-mask", False)):
        assert parse_args([*CSV, word]).text_attention_mask is wanted
        assert run_of(*CSV, "--model", "coca_ViT-B-32", word).objective.alias == "coca"
    assert parse_args(CSV).text_attention_mask is None


def test_every_flag_of_the_peer_is_known_with_its_default():
    """Parsed by open_clip's own parser: the same names, types of values and defaults."""
    params = pytest.importorskip("open_clip_train.params", reason="needs open_clip_torch")
    theirs = vars(params.parse_args(["--model", "RN50"]))
    assert len(theirs) >= 83
    ours = vars(Options())
    names = theirs.keys() - set(OWN)
    assert {flag_of(name) for name in names} <= {flag_of(n) for n in ours} | {
        f"--{n}" for n in LATER
    }
    assert set(ours) - set(OWN) - set(MAINS) <= names
    by_model = {"lr", "beta1", "beta2", "eps", "aug_cfg"}  # which open_clip fills in
    differ = {n for n in names & set(ours) - by_model if theirs[n] != ours[n]}
    assert not differ


def test_every_translated_flag_has_a_case_above():
    """But for those that only say what is so anyhow."""
    words = " ".join([case[0] for case in (*CASES, *SHARDS)])
    always = {
        *("--use-bn-sync", "--local-loss", "--gather-with-grad", "--device", "--dist-url"),
        *("--lock-image-freeze-bn-stats", "--lock-text-freeze-layer-norm", "--resume"),
        *("--dry-run", "--processes", "--text-attention-mask"),
    }
    translated = {flag for flag, kind in _rows() if kind == "translated"}
    assert not {flag for flag in translated - always if f"{flag} " not in words + " "}


def _rows():
    cells = (line.split(" | ") for line in table().splitlines()[2:])
    return [(flag.strip("| `"), kind) for flag, kind, *_ in cells]


def test_the_table_in_the_docs_is_the_codes():
    docs = Path(__file__).parents[2] / "docs" / "from-open_clip.md"
    assert table() in docs.read_text()


def test_a_model_without_a_name_is_described_in_the_script(tmp_path):
    run = run_of(*CSV, "--force-quick-gelu", "--logs", str(tmp_path), "--name", "it")
    made, opened, content, closed, command = script_of(run, RECIPE, resume=False, processes=1)
    file = tmp_path / "it.model.json"
    assert (made, opened, closed) == (f"mkdir -p {tmp_path}", f"cat > {file} <<'EOF'", "EOF")
    file.write_text(content)
    words = shlex.split(command)
    assert words[:3] == ["diptych", "train", RECIPE]
    assert described(new_run(RECIPE, words[3:])) == run.model.custom
    assert recipes.get(RECIPE).model.custom is None


def test_a_table_with_tabs_is_trained_on_and_gone_on_with(tmp_path, capsys, monkeypatch):
    paths = tiny.write_pictures(tmp_path / "pictures")
    rows = [f"{path}\t{path.parent.name}, a colour" for path in paths]
    (tmp_path / "pairs.csv").write_text("\n".join(["filepath\ttitle", *rows]) + "\n")
    words = [
        *("--train-data", str(tmp_path / "pairs.csv"), "--model", "tiny", "--workers", "0"),
        *("--val-data", str(tmp_path / "pairs.csv"), "--precision", "fp32", "--device", "cuda"),
        *("--batch-size", "4", "--epochs", "2", "--warmup", "1", "--log-every-n-steps", "1"),
        *("--logs", str(tmp_path / "logs"), "--name", "mine"),
    ]
    out = tmp_path / "logs" / "mine"
    main([*words, "--dry-run"])
    assert not out.exists()
    assert capsys.readouterr().out.startswith("diptych train clip-vit-b-32 --model.name tiny")
    main(words)  # and returns, as open_clip's does
    rows = read_metrics(out / "metrics.jsonl")
    assert [row["step"] for row in rows if "val/loss" in row] == [3, 6]
    assert load_run(out).data.separator == "\\t"
    with pytest.raises(ConfigError, match="--resume latest goes on with it"):
        main(words)
    monkeypatch.setattr("sys.argv", ["main", *words])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert "--resume latest goes on with it" in capsys.readouterr().err
    main([*words, "--resume", "latest", "--epochs", "3"])
    assert read_metrics(out / "metrics.jsonl")[-1]["step"] == 9
    unnamed = [*words[:-2], "--epochs", "1"]
    main(unnamed)
    main([*unnamed, "--seed", "1"])
    main([*unnamed, "--epochs", "2", "--seed", "1", "--resume", "latest"])
    found = [path for path in sorted((tmp_path / "logs").iterdir()) if path != out]
    assert [read_metrics(path / "metrics.jsonl")[-1]["step"] for path in found] == [3, 6]
    assert found[1].name == f"{found[0].name}-2"


def test_it_is_started_as_open_clips(monkeypatch, capsys):
    name = "diptych.compat.open_clip_train.main"
    monkeypatch.delitem(sys.modules, name)
    words = ["--train-data", "a.csv", "--model", "ViT-B-32", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["main", *words])
    runpy.run_module(name, run_name="__main__")
    assert "diptych train clip-vit-b-32" in capsys.readouterr().out
