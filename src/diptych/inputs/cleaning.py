"""What of a caption is lost before its ids are made."""

import html
import string

import ftfy

from diptych.config.model import Cleaning

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def unescaped(text: str) -> str:
    """Without broken encodings and HTML entities, which captions of the web often have twice."""
    return html.unescape(html.unescape(ftfy.fix_text(text)))


def cleaned(text: str, how: Cleaning) -> str:
    """Without broken encodings, HTML entities, doubled white space, and what else is lost; `none`:
    as it is.

    >>> from diptych.inputs.cleaning import cleaned
    >>> cleaned("A  cat &amp; a_dog!", "canonical")
    'a cat a dog'
    """
    if how == "none":
        return text
    text = unescaped(text)
    if how != "spaces":
        text = text.lower()
    if how == "canonical":  # as big_vision prepares prompts
        text = text.replace("_", " ").translate(_NO_PUNCTUATION)
    return " ".join(text.split())
