"""Jobs in processes of their own that find the libraries imported already.

On a GPU that is rented by the minute, importing torch and transformers takes longer than many a measurement. A server
imports them once and forks for each job; the card is first used in the fork, so that memory and kernels are its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# Only what does not ask for a card while it is imported: CUDA, once started, does not outlive a fork. bitsandbytes
# does, and with it peft and transformers' Trainer.
_CONTEXT.set_forkserver_preload(["torch", "transformers.models.llama.modeling_llama", "accelerate", "sklearn.metrics"])


def run_forked(function: Callable[[dict[str, Any]], dict[str, Any]], job: dict[str, Any]) -> dict[str, Any]:
    """Return what a function returns for a job, run in a process of its own.

    Parameters
    ----------
    function : callable
        At the top level of a module.
    job : dict

    Raises
    ------
    SystemExit
        If the process ends without a result. It has printed why.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_send, args=(sender, function, job))
    process.start()
    sender.close()
    try:
        result: dict[str, Any] = receiver.recv()
    except EOFError:
        raise SystemExit(f"benchmark job failed: {job}") from None
    finally:
        process.join()
    return result


def _send(sender: Connection, function: Callable[[dict[str, Any]], dict[str, Any]], job: dict[str, Any]) -> None:
    sender.send(function(job))
