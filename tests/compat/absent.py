"""Names of open_clip's modules that aren't here, as docs/compat.md says."""

ABSENT = {
    "coca_model": ("GENERATION_TYPES",),
    "convert": "all",
    "factory": ("convert_state_dict",),
    "loss": ("has_distributed", "hvd"),
    "pos_embed": "all",
    "pretrained": ("k", "quick_gelu_tags", "tk", "tv", "v"),
    "transformer": ("get_2d_sincos_pos_embed",),
    "utils": ("convert_int8_model_to_inference_mode", "replace_linear"),
    "open_clip_train.data": ("hvd",),
    "open_clip_train.distributed": ("hvd",),
    "open_clip_train.file_utils": (
        *("keep_running_remote_sync", "remote_sync", "remote_sync_fsspec", "remote_sync_s3"),
        "start_sync_process",
    ),
    "open_clip_train.main": (
        *("LATEST_CHECKPOINT_NAME", "copy_codebase", "hvd", "remote_sync", "start_sync_process"),
    ),
    "open_clip_train.profiler": "all",
}
