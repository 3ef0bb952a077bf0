"""The addresses of the app's API: one table, of which its routes and its page are made."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from diptych.app.answers import Answers


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One address."""

    method: str
    path: str
    answer: Callable[[Answers, Request], Awaitable[Response]]
    what: str
    asks: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fields of the JSON that is sent, or parts of the address, and what they are."""
    example: Any = None
    """JSON that may be sent."""
    gives: str

    @property
    def command(self) -> str:
        """The example, for a terminal."""
        path = self.path.replace("{id}", "ID")
        if self.method == "GET":
            return f'curl -H "Authorization: Bearer TOKEN" ADDRESS{path}'
        sent = "--data-binary @photo.jpg" if self.example is None else f"--json '{self._json}'"
        return f'curl -H "Authorization: Bearer TOKEN" {sent} ADDRESS{path}'

    @property
    def _json(self) -> str:
        return json.dumps(self.example)


_ID = {"id": "what a search called the picture"}
_PICTURE = "/api/pictures/{id}"
_OF_A_PICTURE = {
    "picture": "the id of a picture of the index, or",
    "upload": "what an upload was called",
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/status",
        answer=Answers.status,
        what="What is searched, by which model, and how far an update is.",
        gives="index, version (it rises when another state of the index was opened), pictures, "
        "damaged, sources, columns (what can be filtered by), model, dtype, probability (softmax "
        "or sigmoid), alike (the score of near duplicates), notice, update: stage (idle, looking, "
        "encoding, done, stopped, failed), done, total, said, unreadable",
    ),
    Endpoint(
        method="POST",
        path="/api/search",
        answer=Answers.search,
        what="The nearest pictures. Without a query: all, in the order of the index.",
        asks={
            "text": "what a person typed: texts with + or - between them, and weights, such as "
            '"2:red car - snow"; it opens no file, whatever it looks like',
            "terms": "more of the query: objects with one of text, picture (an id) and upload, and "
            "a weight; below 0: what the pictures should not be like",
            "offset": "how many to pass over",
            "limit": "how many to give, 500 at most",
            "threshold": "give only those with at least this score",
            "folders": "only pictures in or below one of these; '*beach*': of any folder or file "
            "that is called so",
            "after": "only pictures from this date on, such as 2024, 2024-05 or 2024-05-31",
            "before": "only pictures from before this date",
            "larger": "only pictures of so many bytes (200kB) or pixels (2MP) or more",
            "smaller": "only pictures of fewer",
            "where": "only pictures of which this is known, such as 'camera=Canon*', 'year>=2020'",
            "distinct": "true: leave out what is nearly the same as a picture before it",
        },
        example={"text": "red car - snow", "terms": [], "limit": 10},
        gives="version, total, typical (the score that half of a sample of the index has), typed "
        "(the terms that were read from the text), remark (on a text that is too long), hits (id, "
        "score: a cosine, alike: how many were left out for its sake, path, name, bytes, "
        "modified: seconds since 1970, gone: whether the file isn't there any more), next (the "
        "offset of the next page; null: there is none), milliseconds",
    ),
    Endpoint(
        method="POST",
        path="/api/duplicates",
        answer=Answers.duplicates,
        what="Groups of pictures that are nearly the same (the status says from which score on), "
        "directly or over others of the group; the largest first. They are looked for when they "
        "are first asked for, which takes a while: until then the answer is 202, and says how far "
        "it is.",
        asks={
            "offset": "how many groups to pass over",
            "limit": "how many to give, 100 at most",
        },
        example={"limit": 10},
        gives="version, pictures, done (how many are compared); then total (groups), alike "
        "(pictures that could go), next, and groups: size, hits (the first hundred; the one to "
        "keep first; as those of a search, with score: the cosine with the one to keep, copy: "
        "whether it is the same byte for byte)",
    ),
    Endpoint(
        method="GET",
        path=_PICTURE,
        answer=Answers.picture,
        what="What is known of a picture.",
        asks=_ID,
        gives="id, path, name, bytes, modified, gone, known (what else: width, height, camera, "
        "caption, …)",
    ),
    Endpoint(
        method="GET",
        path=f"{_PICTURE}/thumbnail",
        answer=Answers.thumbnail,
        what="The picture with a longer side of 360 pixels at most.",
        asks=_ID,
        gives="a JPEG",
    ),
    Endpoint(
        method="GET",
        path=f"{_PICTURE}/preview",
        answer=Answers.preview,
        what="The picture with a longer side of 1,600 pixels at most.",
        asks=_ID,
        gives="a JPEG",
    ),
    Endpoint(
        method="GET",
        path=f"{_PICTURE}/square",
        answer=Answers.square,
        what="The part of the picture that the model sees.",
        asks=_ID,
        gives="a JPEG",
    ),
    Endpoint(
        method="GET",
        path=f"{_PICTURE}/why",
        answer=Answers.why,
        what="Where in the picture a text is.",
        asks=_ID | {"text": "what to look for"},
        gives="lowest and highest number of the heat map, right and down: the place of the highest "
        "in shares of the square",
    ),
    Endpoint(
        method="GET",
        path=f"{_PICTURE}/map",
        answer=Answers.map,
        what="The heat map, to be laid over the square.",
        asks=_ID | {"text": "what to look for"},
        gives="a PNG",
    ),
    Endpoint(
        method="POST",
        path="/api/labels",
        answer=Answers.labels,
        what="Which of some names fits a picture (zero-shot classification).",
        asks={
            "names": "1 to 500 names",
            **_OF_A_PICTURE,
            "template": "what is made of a name, such as 'a photo of a {}.'",
        },
        example={"names": ["a cat", "a dog"], "picture": "ID"},
        gives="kind (softmax: the names share the whole; sigmoid: each by itself), labels (name, "
        "cosine, probability), the best first",
    ),
    Endpoint(
        method="POST",
        path="/api/uploads",
        answer=Answers.upload,
        what="Take a picture to search with: the bytes of a file, 32 MB at most. It is kept in "
        "memory, with the last 64.",
        gives="upload: what it is called from now on",
    ),
    Endpoint(
        method="GET",
        path="/api/uploads/{id}/thumbnail",
        answer=Answers.uploaded,
        what="An uploaded picture with a longer side of 360 pixels at most.",
        asks={"id": "what the upload was called"},
        gives="a JPEG",
    ),
    Endpoint(
        method="POST",
        path="/api/update",
        answer=Answers.update,
        what="Bring the index up to date; searches go on meanwhile. The status says how far it is.",
        example={},
        gives="update: the stage",
    ),
    Endpoint(
        method="POST",
        path="/api/update/stop",
        answer=Answers.stop,
        what="End the update. What it has done is kept.",
        example={},
        gives="update: the stage",
    ),
)


def routes(answers: Answers) -> list[Route]:
    """The addresses, answered, and the page about them."""
    found = [Route("/api", _manual)]
    for endpoint in ENDPOINTS:
        found.append(Route(endpoint.path, _bound(endpoint, answers), methods=[endpoint.method]))
    return found


def _bound(endpoint: Endpoint, answers: Answers) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await endpoint.answer(answers, request)

    return answer


async def _manual(request: Request) -> Response:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("diptych.app"), autoescape=True, undefined=StrictUndefined
    )
    page = templates.get_template("api.html.j2")
    return HTMLResponse(page.render(endpoints=ENDPOINTS, address=str(request.base_url).rstrip("/")))
