"""What the app answers: a method for each address of its API."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from pathlib import PurePath
from typing import Any, TypeVar

import anyio
import numpy as np
from jaxtyping import Float
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from torch import Tensor

from diptych.app.asked import (
    MAX_UPLOAD,
    DuplicatesAsked,
    LabelsAsked,
    SearchAsked,
    TermAsked,
    read_body,
    read_json,
)
from diptych.app.doubles import Doubles
from diptych.app.library import Library, Shelf
from diptych.app.model import Model, Recent
from diptych.app.pictures import LARGE, SMALL, Gone, Pictures, heat, shrunk, square
from diptych.app.ranking import ALIKE
from diptych.app.updating import Updating
from diptych.errors import ConfigError
from diptych.search import Picture, Query, Term
from diptych.similarity import reaching
from diptych.terminal import escaped
from diptych.threads import usable_cores

R = TypeVar("R")

_UPLOADS, _SEEN, _MAPS = 64, 4096, 64


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A picture that was dropped: in memory alone, and only for a while."""

    vector: Tensor
    thumbnail: bytes


class Answers:
    """Answers requests about one index.

    The model works in its own thread, pictures are read in others, and the event loop waits for
    neither.
    """

    def __init__(
        self,
        library: Library,
        model: Model,
        pictures: Pictures,
        updating: Updating,
        doubles: Doubles,
    ):
        self._library, self._model = library, model
        self._pictures, self._updating, self._doubles = pictures, updating, doubles
        self._uploads = Recent[str, Upload](_UPLOADS)
        self._seen = Recent[str, Tensor](_SEEN)
        self._maps = Recent[tuple[str, str], Tensor](_MAPS)
        self._readers = anyio.CapacityLimiter(max(2, usable_cores()))

    async def status(self, request: Request) -> Response:
        """What is searched, and how far an update is."""
        shelf, made_by = self._library.shelf, self._library.shelf.index.made_by
        columns = await self._read(lambda: shelf.columns)
        return JSONResponse(
            {
                "index": escaped(self._library.folder),
                "version": shelf.number,
                "pictures": len(shelf.index),
                "damaged": shelf.damaged,
                "sources": list(map(escaped, shelf.index.sources)),
                "columns": {escaped(name): kind for name, kind in columns.items()},
                "model": escaped(PurePath(made_by.name).name),
                "dtype": made_by.dtype,
                "alike": ALIKE,
                "probability": self._model.encoder.probability,
                "notice": escaped(self._library.notice),
                "update": asdict(self._updating.state)
                | {"said": escaped(self._updating.state.said)}
                | {"unreadable": list(map(escaped, self._updating.state.unreadable))},
            }
        )

    async def search(self, request: Request) -> Response:
        """The pictures nearest to a query, or, without one, all in the order of the index."""
        asked, start = await read_json(request, SearchAsked), time.perf_counter()
        typed = Query.from_text(asked.text).terms if asked.text.strip() else ()
        terms = [*asked.terms, *(TermAsked(text=str(t), weight=t.weight) for t in typed)]
        async with self._model.turn:
            if await request.is_disconnected():  # who types has typed on
                return Response(status_code=204)
            shelf = self._library.shelf
            found = await self._model.run(partial(self._search, shelf, asked, terms))
        hits = await self._read(partial(self._described, shelf, found["hits"]))
        shown = [{"text": term.called or str(term), "weight": term.weight} for term in typed]
        took = round(1000 * (time.perf_counter() - start), 1)
        return JSONResponse(found | {"hits": hits, "typed": shown, "milliseconds": took})

    def _search(self, shelf: Shelf, asked: SearchAsked, terms: list[TermAsked]) -> dict[str, Any]:
        first, last = asked.offset, asked.offset + asked.limit
        where, typical = asked.filter, None
        rows = np.flatnonzero(shelf.index.among(where))
        if terms:
            vector = shelf.index.encode(self._query(shelf, terms))
            found, is_more = shelf.ranking(vector, where, asked.distinct).part(first, last)
            least = reaching(asked.threshold, shelf.index.vectors.dtype)
            near = [one for one in found if one.hit.score >= least]
            is_more &= len(near) == len(found)
            hits = [(one.hit.row, one.hit.score, one.alike) for one in near]
            typical = round(shelf.typical(vector), 4)
        else:
            hits, is_more = [(row, None, 0) for row in rows[first:last].tolist()], last < len(rows)
        return {
            "version": shelf.number,
            "total": len(rows),
            "typical": typical,
            "remark": escaped(self._model.remark([term.text for term in terms if term.text])),
            "hits": hits,
            "next": last if is_more else None,
        }

    def _query(self, shelf: Shelf, terms: list[TermAsked]) -> Query:
        """The query with all its vectors: what was computed before isn't computed again."""
        texts = iter(self._model.texts([term.text for term in terms if term.text]))
        return Query(
            tuple(
                Term(next(texts), term.weight, term.text)
                if term.text
                else Term(self._vector(shelf, term.picture, term.upload), term.weight, "a picture")
                for term in terms
            )
        )

    def _vector(self, shelf: Shelf, picture: str, upload: str) -> Float[Tensor, " width"]:
        """Of a picture of the index, also one that an update has moved, or of an upload."""
        if upload:
            return self._upload(upload).vector
        try:
            row, _ = shelf.find(picture)
        except Gone:
            if (seen := self._seen.get(picture)) is not None:
                return seen
            raise
        vector = shelf.index.vectors[row].float().clone()
        self._seen.put(picture, vector)
        return vector

    def _upload(self, name: str) -> Upload:
        found = self._uploads.get(name)
        if found is None:
            raise Gone("the dropped picture isn't kept any more: drop it again")
        return found

    async def duplicates(self, request: Request) -> Response:
        """Groups of near duplicates of the whole index, the largest first; or how far the search
        for them is."""
        asked, looking = await read_json(request, DuplicatesAsked), self._doubles.looking()
        describe = partial(self._describe, looking.shelf)
        found = await self._read(lambda: looking.page(asked.offset, asked.limit, describe))
        return JSONResponse(found, 200 if "groups" in found else 202)

    def _described(
        self, shelf: Shelf, hits: list[tuple[int, float | None, int]]
    ) -> list[dict[str, Any]]:
        return [
            self._describe(shelf, row, shelf.index.picture(row))
            | {"score": None if score is None else round(score, 4), "alike": alike}
            for row, score, alike in hits
        ]

    def _describe(self, shelf: Shelf, row: int, picture: Picture) -> dict[str, Any]:
        """A picture in JSON; names as text that can be shown, whatever their bytes."""
        return {
            "id": shelf.name(row, picture),
            "path": escaped(picture.path),
            "name": escaped(PurePath(picture.path).name),
            "bytes": picture.nbytes,
            "modified": picture.mtime_ns // 1_000_000_000,
            "gone": not self._pictures.is_there(picture),
        }

    async def picture(self, request: Request) -> Response:
        """What is known of a picture."""
        shelf, row, picture = self._find(request)
        known = await self._read(partial(shelf.index.metadata.of, row))
        shown = {escaped(name): _plain(value) for name, value in known.items()}
        return JSONResponse(self._describe(shelf, row, picture) | {"known": shown})

    async def thumbnail(self, request: Request) -> Response:
        """A small JPEG of a picture."""
        return await self._jpeg(request, SMALL)

    async def preview(self, request: Request) -> Response:
        """A JPEG of a picture as large as a screen."""
        return await self._jpeg(request, LARGE)

    async def _jpeg(self, request: Request, side: int) -> Response:
        _, _, picture = self._find(request)
        if await request.is_disconnected():  # who scrolled on
            return Response(status_code=204)
        data = await self._read(partial(self._pictures.jpeg, picture, side))
        # Kept by the browser, and asked for each time whether it is still there.
        etag = f'"{request.path_params["id"]}-{side}"'
        headers = {"cache-control": "private, no-cache", "etag": etag}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/jpeg", headers=headers)

    async def square(self, request: Request) -> Response:
        """The part of a picture that the model sees, over which a heat map lies."""
        _, _, picture = self._find(request)
        seen = self._model.encoder.preprocess.seen
        return _jpeg(await self._read(lambda: square(seen(self._pictures.read(picture)))))

    async def why(self, request: Request) -> Response:
        """Where in a picture a text is: the range of the numbers and the place of the highest."""
        numbers = await self._map(request)
        row, column = divmod(int(numbers.argmax()), numbers.shape[1])
        rows, columns = numbers.shape
        return JSONResponse(
            {
                "lowest": round(float(numbers.min()), 4),
                "highest": round(float(numbers.max()), 4),
                "right": round((column + 0.5) / columns, 3),
                "down": round((row + 0.5) / rows, 3),
            }
        )

    async def map(self, request: Request) -> Response:
        """The heat map as a PNG that lies over the square."""
        numbers = await self._map(request)
        return Response(await self._read(partial(heat, numbers)), media_type="image/png")

    async def _map(self, request: Request) -> Float[Tensor, "rows columns"]:
        _, _, picture = self._find(request)
        text = request.query_params.get("text", "")
        if not text.strip() or len(text) > 1000:
            raise ConfigError("say in ?text= what to look for, in 1,000 letters at most")
        key = (request.path_params["id"], text)
        if (kept := self._maps.get(key)) is not None:
            return kept
        data = await self._read(partial(self._pictures.read, picture))
        explain = self._model.encoder.explain
        numbers = await self._model.run(lambda: explain(data, [text])[0])
        self._maps.put(key, numbers)
        return numbers

    async def labels(self, request: Request) -> Response:
        """Which of some names fits a picture: cosines, and probabilities of the model's kind."""
        asked, shelf = await read_json(request, LabelsAsked), self._library.shelf

        def work() -> tuple[list[float], list[float]]:
            vector = self._vector(shelf, asked.picture, asked.upload)
            return self._model.labels(vector, asked.names, [asked.template])

        cosines, shares = await self._model.run(work)
        best = sorted(zip(cosines, shares, asked.names, strict=True), reverse=True)
        labels = [
            {"name": name, "cosine": round(cosine, 4), "probability": round(share, 6)}
            for cosine, share, name in best
        ]
        return JSONResponse({"kind": self._model.encoder.probability, "labels": labels})

    async def upload(self, request: Request) -> Response:
        """Take a picture to search with; it is kept in memory for a while."""
        data = await read_body(request, MAX_UPLOAD)
        small = await self._read(partial(shrunk, data, SMALL))
        vectors = await self._model.run(partial(self._model.encoder.embed_images, data))
        name = hashlib.sha256(data).hexdigest()[:32]
        self._uploads.put(name, Upload(vector=vectors[0], thumbnail=small))
        return JSONResponse({"upload": name})

    async def uploaded(self, request: Request) -> Response:
        """A small JPEG of an uploaded picture."""
        return _jpeg(self._upload(request.path_params["id"]).thumbnail)

    async def update(self, request: Request) -> Response:
        """Begin to bring the index up to date."""
        self._updating.start()
        return JSONResponse({"update": self._updating.state.stage}, 202)

    async def stop(self, request: Request) -> Response:
        """End an update; what it has done is kept."""
        self._updating.stop()
        return JSONResponse({"update": "stopping"}, 202)

    def _find(self, request: Request) -> tuple[Shelf, int, Picture]:
        shelf = self._library.shelf
        return shelf, *shelf.find(request.path_params["id"])

    async def _read(self, work: Callable[[], R]) -> R:
        return await anyio.to_thread.run_sync(work, limiter=self._readers)


def _plain(value: object) -> object:
    """A value of a column as JSON has it."""
    is_number = isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value))
    return value if is_number else escaped(str(value))


def _jpeg(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg")
