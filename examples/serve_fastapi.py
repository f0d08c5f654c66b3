"""Serve an exported model over HTTP, with requests that arrive together predicted together.

    pip install 'mlclf[onnx]' fastapi uvicorn
    python examples/serve_fastapi.py bundle --port 8000
    curl localhost:8000/predict -H 'content-type: application/json' -d '{"texts": ["My parcel is late."]}'

POST /predict takes {"texts": [...]} and, if wanted, "top_k" and "threshold"; the answer holds the labels of each text,
most probable first. GET /health says that the process lives, GET /ready that it takes requests. What is wrong with a
request is said in "detail", with a status from 400 to 499; 503 means: come back later.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlclf.exceptions import InvalidInputError
from mlclf.onnx import OnnxClassifier
from mlclf.texts import as_texts
from mlclf.thresholds import Thresholds, as_thresholds

logger = logging.getLogger("mlclf.serve")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how requests are joined.

    ``max_delay`` is in seconds: as long does a request wait for company. ``max_waiting`` counts texts; beyond it
    requests are turned away at once, because an answer that comes too late helps nobody.
    """

    max_texts: int = 128
    max_characters: int = 20_000
    max_body: int = 1 << 20
    max_batch: int = 64
    max_delay: float = 0.002
    max_waiting: int = 2_048


class Query(BaseModel):
    """What /predict takes; ``threshold`` replaces those of the model, ``top_k`` keeps the most probable labels."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: list[str] = Field(min_length=1)
    top_k: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)


class Found(BaseModel):
    """A label that applies."""

    label: str | int
    probability: float


class Answer(BaseModel):
    """The labels of each text, in the order of the texts."""

    results: list[list[Found]]


class BusyError(Exception):
    """Too many texts wait already, or the service is stopping."""


@dataclass(frozen=True)
class Job:
    """One request: its texts, and where its rows of probabilities go."""

    texts: list[str]
    rows: asyncio.Future[NDArray[np.float32]]
    arrived: float


class Batcher:
    """Joins the texts of waiting requests into one call of the model, and gives each request its own rows.

    While the model works, requests gather; so a batch grows with the load. All methods run on the event loop, and only
    the model in a thread, so that nothing here needs a lock.
    """

    def __init__(self, predict: Callable[[list[str]], NDArray[np.float32]], limits: Limits) -> None:
        self._predict = predict
        self._limits = limits
        self._waiting: deque[Job] = deque()
        self._n_texts = 0
        self._arrived, self._full = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a request would be taken now."""
        working = self._worker is not None and not self._worker.done()
        return working and not self._stopping and self._n_texts < self._limits.max_waiting

    def start(self) -> None:
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Take no more requests, answer those that wait, and end."""
        self._stopping = True
        self._arrived.set()
        self._full.set()
        if self._worker is not None:
            await self._worker

    async def submit(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the probabilities of some texts, float32 ``(n_texts, n_labels)``."""
        if not self.ready or self._n_texts + len(texts) > self._limits.max_waiting:
            raise BusyError
        loop = asyncio.get_running_loop()
        job = Job(texts, loop.create_future(), loop.time())
        self._waiting.append(job)
        self._n_texts += len(texts)
        self._arrived.set()
        if self._n_texts >= self._limits.max_batch:
            self._full.set()
        return await job.rows

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._waiting:
                return  # only stop() sets the event without a job
            with suppress(TimeoutError):
                patience = self._waiting[0].arrived + self._limits.max_delay - asyncio.get_running_loop().time()
                await asyncio.wait_for(self._full.wait(), patience)
            await self._answer(self._take())

    def _take(self) -> list[Job]:
        """Take the oldest requests, as many as fit into a batch and at least one."""
        jobs = [self._waiting.popleft()]
        size = len(jobs[0].texts)
        while self._waiting and size + len(self._waiting[0].texts) <= self._limits.max_batch:
            jobs.append(self._waiting.popleft())
            size += len(jobs[-1].texts)
        self._n_texts -= size
        if not self._stopping:
            if not self._waiting:
                self._arrived.clear()
            if self._n_texts < self._limits.max_batch:
                self._full.clear()
        return jobs

    async def _answer(self, jobs: Sequence[Job]) -> None:
        try:
            rows = await asyncio.to_thread(self._predict, [text for job in jobs for text in job.texts])
            parts = np.split(rows, np.cumsum([len(job.texts) for job in jobs])[:-1])
        except Exception as error:
            await self._answer_failed(jobs, error)
            return
        for job, part in zip(jobs, parts, strict=True):
            if not job.rows.done():  # its client may have gone
                job.rows.set_result(part)

    async def _answer_failed(self, jobs: Sequence[Job], error: Exception) -> None:
        """Ask again for each request alone, so that one cannot spoil the others' answers."""
        if len(jobs) > 1:
            for job in jobs:
                await self._answer([job])
        elif not jobs[0].rows.done():
            jobs[0].rows.set_exception(error)


class BodyLimit:
    """Refuses bodies that are too large, by their announced length or while they are read."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most:
                raise HTTPException(413, f"The body is larger than {self.most} bytes. Send fewer texts at a time.")
            return message

        await self.app(scope, limited, send)


def create_app(clf: OnnxClassifier, limits: Limits | None = None) -> FastAPI:
    """Return the service for a model."""
    bounds = limits or Limits()
    batcher = Batcher(clf.predict_proba, bounds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(title="mlclf", lifespan=lifespan)
    app.add_middleware(BodyLimit, most=bounds.max_body)
    app.add_exception_handler(RequestValidationError, _say_what_is_wrong)
    app.add_exception_handler(InvalidInputError, _say_what_is_wrong)
    app.add_exception_handler(Exception, _say_that_it_failed)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        if not batcher.ready:
            raise _busy()
        return {"status": "ready", "labels": clf.n_labels_, "provider": clf.provider_}

    @app.post("/predict")
    async def predict(query: Query) -> Answer:
        texts = _checked(query.texts, bounds)
        try:
            probabilities = await batcher.submit(texts)
        except BusyError:
            raise _busy() from None
        return Answer(results=_found(clf, probabilities, query))

    return app


def _checked(texts: list[str], limits: Limits) -> list[str]:
    """Refuse what is too much before it waits."""
    if len(texts) > limits.max_texts:
        raise HTTPException(
            422, f"texts has {len(texts)} entries; at most {limits.max_texts} are allowed in a request."
        )
    for number, text in enumerate(texts):
        if len(text) > limits.max_characters:
            raise HTTPException(
                422, f"texts.{number} has {len(text)} characters; at most {limits.max_characters} are allowed."
            )
    return as_texts(texts)


def _found(clf: OnnxClassifier, probabilities: NDArray[np.float32], query: Query) -> list[list[Found]]:
    """Return the labels that apply to each text, most probable first."""
    thresholds: Thresholds = clf.thresholds_
    if query.threshold is not None:
        thresholds = as_thresholds(query.threshold, clf.classes_.tolist(), thresholds)
    names, results = clf.classes_.tolist(), []
    for row, applies in zip(probabilities, thresholds.limited(query.top_k).apply(probabilities), strict=True):
        columns = np.flatnonzero(applies)
        ranked = columns[np.argsort(-row[columns], kind="stable")]
        results.append([Found(label=names[column], probability=float(row[column])) for column in ranked])
    return results


def _busy() -> HTTPException:
    return HTTPException(503, "Too many requests wait. Come back in a second.", headers={"Retry-After": "1"})


async def _say_what_is_wrong(request: Request, error: Exception) -> JSONResponse:
    """Answer with the fault alone: what was sent may be long, private, or no valid text."""
    if isinstance(error, RequestValidationError):
        faults = [(".".join(map(str, fault["loc"][1:])), fault["msg"]) for fault in error.errors()[:5]]
        message = "; ".join(f"{where}: {what}" if where else what for where, what in faults)
    else:
        message = str(error)
    return JSONResponse({"detail": message.encode("utf-8", "replace").decode()}, status_code=422)


async def _say_that_it_failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The model failed on this request; the log says why."}, status_code=500)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an exported model over HTTP.")
    parser.add_argument("folder", help="what export_onnx wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--providers", choices=["cpu", "cuda", "tensorrt"], help="default: a GPU where there is one")
    parser.add_argument("--threads", type=int, help="default: the cores that this process may use")
    parser.add_argument("--max-batch", type=int, default=Limits.max_batch, help="texts of one call of the model")
    parser.add_argument("--max-delay", type=float, default=Limits.max_delay, help="seconds to wait for company")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    clf = OnnxClassifier(given.folder, given.providers, threads=given.threads, selftest=True)
    logger.info("Serving %r with %d threads.", clf, clf.threads_)
    app = create_app(clf, Limits(max_batch=given.max_batch, max_delay=given.max_delay))
    # On SIGTERM or Ctrl-C uvicorn takes no more connections, and answers the requests that it has.
    uvicorn.run(app, host=given.host, port=given.port, timeout_graceful_shutdown=30, access_log=False)


if __name__ == "__main__":
    main()
