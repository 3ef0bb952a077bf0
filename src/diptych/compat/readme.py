"""The README of a model on the hub."""

from collections.abc import Mapping, Sequence
from typing import Any


def generate_readme(model_card: Mapping[str, Any], model_name: str) -> str:
    """The text of README.md: `tags`, `pipeline_tag`, `license` and the data set of `details` for
    the hub, then `description`, `details`, `usage`, `comparison` and `citation`, where given.

    >>> from diptych.compat.readme import generate_readme
    >>> print(generate_readme({"license": "mit", "details": {"Dataset": "LAION-2B"}}, "tower"))
    ---
    tags:
    - clip
    library_name: open_clip
    pipeline_tag: zero-shot-image-classification
    license: mit
    datasets:
    - laion-2b
    ---
    # Model card for tower
    <BLANKLINE>
    ## Model Details
    - **Dataset:** LAION-2B
    <BLANKLINE>
    """
    details = model_card.get("details", {})
    lines = ["---", *_list("tags", model_card.get("tags", ("clip",))), "library_name: open_clip"]
    task = model_card.get("pipeline_tag", "zero-shot-image-classification")
    lines += [f"pipeline_tag: {task}", f"license: {model_card.get('license', 'mit')}"]
    lines += _list("datasets", [details["Dataset"].lower()] if "Dataset" in details else ())
    lines += ["---", f"# Model card for {model_name}"]
    if "description" in model_card:
        lines += ["", model_card["description"]]
    if details:
        lines += ["", "## Model Details"]
    for name, value in details.items():
        lines += _detail(name, value)
    for name, title in (("usage", "Usage"), ("comparison", "Comparison")):
        if name in model_card:
            lines += ["", f"## Model {title}", model_card[name]]
    if citations := model_card.get("citation"):
        lines += ["", "## Citation"]
        for each in [citations] if isinstance(citations, str) else citations:
            lines += ["```bibtex", each, "```"]
    return "\n".join([*lines, ""])


def _list(name: str, values: Sequence[str]) -> list[str]:
    return [f"{name}:", *(f"- {value}" for value in values)] if values else []


def _detail(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        below = [f"  - {key}: {each}" for key, each in value.items()]
        return [f"- **{name}:**", *below]
    if isinstance(value, list | tuple):
        return [f"- **{name}:**", *(f"  - {each}" for each in value)]
    return [f"- **{name}:** {value}"]
