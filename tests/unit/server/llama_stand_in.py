"""A stand-in for llama-server: its words, its socket, its log and as much of its API as the tests need.

It does what the prompt says: `forever` streams until the client goes, `large` streams more than buffers hold, `wait`
answers when the file `go` beside the model is there, `die` ends the process in the middle of an answer. All that it was
asked is in the file `asked` beside the model.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
BUFFERS = {"gpu": {"CPU_Mapped": 4.0, "CUDA0": 2048.5}, "pinned": {"CUDA0": 4.0, "CUDA_Host": 2048.5}}
DELAY = 0.01
LARGE_PARTS, PART = 4000, 16 << 10


class StandIn:
    def __init__(self, model: Path, alias: str) -> None:
        self.folder = model.parent
        self.alias = alias
        self.tokens = 0

    def note(self, what: str) -> None:
        with (self.folder / "asked").open("a", encoding="utf-8") as file:
            file.write(what + "\n")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        path = scope["path"]
        if path == "/health":
            await answer(send, {"status": "ok"})
        elif path == "/metrics":
            text = f"# HELP llamacpp:tokens_predicted_total x\nllamacpp:tokens_predicted_total {self.tokens}\n"
            await answer(send, text.encode(), kind=b"text/plain")
        elif path == "/v1/models":
            await answer(send, {"object": "list", "data": [{"id": self.alias}]})
        else:
            await self.write(path, json.loads(body), receive, send)

    async def write(self, path: str, asked: dict[str, Any], receive: Receive, send: Send) -> None:
        prompt = asked["prompt"]
        self.note(f"{path} {prompt}")
        say("0.01.000.000 W slot n_past was set to 1")
        say("0.01.000.000 E srv  an error")
        gone = asyncio.ensure_future(receive())
        working = asyncio.create_task(self.obey(prompt, asked, send))
        await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            self.note(f"{prompt} given up")

    async def obey(self, prompt: str, asked: dict[str, Any], send: Send) -> None:
        if prompt == "too long":
            await answer(send, {"error": {"code": 400, "message": "exceeds the context"}}, status=400)
            return
        if prompt == "wait":
            while not (self.folder / "go").exists():  # noqa: ASYNC110 - the test is another process
                await asyncio.sleep(DELAY)
        if not asked.get("stream"):
            self.tokens += 3
            await answer(send, {"model": self.alias, "choices": [{"text": "one two three"}]})
            return
        start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
        await send(start)
        count = {"forever": sys.maxsize, "large": LARGE_PARTS, "die": 3}.get(prompt, 3)
        filling = "x" * PART if prompt == "large" else ""
        for number in range(count):
            self.tokens += 1
            event = f"data: {json.dumps({'choices': [{'text': f'{number} {filling}'}]})}\n\n"
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            self.note(f"part {number}")
            await asyncio.sleep(0 if prompt == "large" else DELAY)
        if prompt == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def answer(send: Send, content: Any, status: int = 200, kind: bytes = b"application/json; charset=utf-8") -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    async def shutdown(self, sockets: Any = None) -> None:
        """End as llama-server does: what it writes is cut off."""
        for connection in list(self.server_state.connections):
            connection.transport.close()
        await super().shutdown(sockets)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser()
    for word in ("--model", "--alias", "--host", "--device"):
        parser.add_argument(word)
    given, _ = parser.parse_known_args()
    model = Path(given.model)
    wish = model.read_text(encoding="utf-8")
    (model.parent / "words").write_text(json.dumps(sys.argv[1:]), encoding="utf-8")
    say("0.00.100.000 I srv  llama_server: initializing ...")
    if wish == "broken":
        say("0.00.200.000 E llama_model_load: error loading model: tensor 'a' is cut off")
        return 1
    for buffer, mebibytes in BUFFERS.get(wish, {"CPU_Mapped": 1.5, "CPU_REPACK": 2.5}).items():
        say(f"0.00.200.000 I load_tensors:   {buffer} model buffer size =  {mebibytes:.2f} MiB")
    say("0.00.300.000 W srv  llama_server: a warning")
    app = StandIn(model, given.alias)
    config = uvicorn.Config(app, uds=given.host, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
