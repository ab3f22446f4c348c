"""Server-sent events as they lie on the wire."""
import json

import pytest

from budlib import MODEL, sse_events

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0}
TEXT = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
ROUTES = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)]


@pytest.mark.parametrize("path, body", ROUTES)
def test_framing(served, path, body):
    r = served.request("POST", path, {**body, "stream": True})
    assert r.status == 200
    assert r.get("content-type") == "text/event-stream; charset=utf-8"
    assert r.get("cache-control") == "no-cache"
    assert r.get("x-accel-buffering") == "no"
    assert r.get("transfer-encoding") == "chunked" and r.get("content-length") is None
    assert r.get("x-request-id") and r.get("openai-processing-ms").isdigit() and r.get("server-timing")
    events = sse_events(r.body)
    assert events[-1] == "[DONE]" and events.count("[DONE]") == 1
    chunks = [json.loads(e) for e in events[:-1]]
    assert all("usage" not in c for c in chunks), "nobody asked for usage"
    assert len({json.dumps([c[k] for k in ("id", "object", "created", "model")]) for c in chunks}) == 1


@pytest.mark.parametrize("path, body", ROUTES)
def test_usage(served, path, body):
    r = served.request("POST", path, {**body, "stream": True, "stream_options": {"include_usage": True}})
    chunks = [json.loads(e) for e in sse_events(r.body)[:-1]]
    assert all(c["usage"] is None and len(c["choices"]) == 1 for c in chunks[:-1])
    assert chunks[-1]["choices"] == []
    usage = chunks[-1]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    line = served.access(r.get("x-request-id"))
    assert line["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert line["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert line["http.response.status_code"] == 200 and line["failed"] is False


def test_usage_of_a_stream_that_did_not_ask(served):
    """It is on the access line all the same."""
    r = served.request("POST", "/v1/completions", {**TEXT, "stream": True})
    assert served.access(r.get("x-request-id"))["gen_ai.usage.output_tokens"] == 6


def test_first_and_last_chat_chunk(served):
    r = served.request("POST", "/v1/chat/completions", {**CHAT, "stream": True})
    chunks = [json.loads(e) for e in sse_events(r.body)[:-1]]
    first, last = chunks[0]["choices"][0], chunks[-1]["choices"][0]
    assert first["delta"]["role"] == "assistant" and first["index"] == 0
    assert all("role" not in c["choices"][0]["delta"] for c in chunks[1:])
    assert last["finish_reason"] in ("length", "stop")
    assert all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1])


def test_events_come_as_they_are_made(served):
    """The first event arrives long before the last: nothing on the way collects them."""
    with served.raw() as raw:
        raw.request("POST", "/v1/completions", {**TEXT, "max_tokens": 400, "stream": True},
                    [f"Authorization: Bearer {served.key}"])
        raw.head()
        assert raw.chunk().startswith(b"data: ")
        n = 1
        while raw.chunk():
            n += 1
        assert n > 5  # a busy machine sends several events in one chunk


def test_whole_characters_only(served):
    """Every event alone is valid JSON of whole characters, whatever tokens they were made of."""
    body = {**TEXT, "prompt": "🐈 café 日本", "echo": True, "stream": True, "temperature": 2, "max_tokens": 200,
            "seed": 1}
    r = served.request("POST", "/v1/completions", body)
    text = "".join(json.loads(e)["choices"][0]["text"] for e in sse_events(r.body)[:-1])
    assert text.startswith("🐈 café 日本")
    whole = served.request("POST", "/v1/completions", {**body, "stream": False}).json()
    assert text == whole["choices"][0]["text"]


@pytest.mark.parametrize("change, status", [
    ({"model": "nope"}, 404), ({"temperature": 9}, 400), ({"max_tokens": 100_000}, 400)])
def test_refused_before_the_first_event(served, change, status):
    r = served.request("POST", "/v1/completions", {**TEXT, "stream": True, **change})
    assert r.status == status
    r.error()


def test_two_streams_on_one_connection(served):
    with served.raw() as raw:
        for _ in range(2):
            raw.request("POST", "/v1/completions", {**TEXT, "stream": True}, [f"Authorization: Bearer {served.key}"])
            assert sse_events(raw.response().body)[-1] == "[DONE]"
