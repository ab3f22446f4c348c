"""Idempotency-Key and resume: the official SDK asks again and gets the same answer, many at once share
one call and one usage record, and a stream that was cut goes on behind the last event seen."""
import concurrent.futures

import openai
import pytest

from budlib import MODEL, Raw, eventually
from test_usage import Upstream, start, usage

ASK = [{"role": "user", "content": "Write a story about a cat who finds a key."}]


def chat(client, key, **kwargs):
    given = {"model": MODEL, "messages": ASK, "temperature": 1, "max_completion_tokens": 24}
    return client.chat.completions.create(extra_headers={"Idempotency-Key": key}, **{**given, **kwargs})


def test_the_sdk_gets_the_same_answer_again(client, served):
    first, again = chat(client, "whole"), chat(client, "whole")
    assert first == again and first.choices[0].message.content
    assert first._request_id != again._request_id
    assert chat(client, "another").id != first.id
    line = served.access(again._request_id)
    assert line["replayed"] and not served.access(first._request_id)["replayed"]
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=ASK, temperature=1, max_completion_tokens=24,
        extra_headers={"Idempotency-Key": "whole"})
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.headers["original-request"] == first._request_id


def test_the_sdk_gets_the_same_stream_again(client, served):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first, again = list(chat(client, "stream", **options)), list(chat(client, "stream", **options))
    assert first == again and len(first) > 1 and first[-1].usage.completion_tokens == 24
    body = {"model": MODEL, "prompt": "One day", "max_tokens": 16, "stream": True}
    one, two = (served.request("POST", "/v1/completions", body, ["Idempotency-Key: raw"]) for _ in "12")
    assert one.body == two.body and one.body.startswith(b"id: ") and two.get("idempotent-replayed") == "true"


def test_the_sdk_is_told_of_another_body(client):
    chat(client, "body")
    with pytest.raises(openai.ConflictError) as refused:
        chat(client, "body", max_completion_tokens=25)
    assert refused.value.code == "idempotency_key_reused"
    with pytest.raises(openai.BadRequestError):
        chat(client, "x" * 256)


def test_parallel_ones_share_one_call_and_one_record(tmp_path):
    up = Upstream()
    body = {"model": "slow", "prompt": "hello", "max_tokens": 40, "stream": True}
    with start(tmp_path, up, "bud") as front:
        def ask(i):
            return front.request("POST", "/v1/completions", body, ["Idempotency-Key: one", f"x-request-id: r{i}"])
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            replies = list(pool.map(ask, range(32)))
        assert {r.status for r in replies} == {200} and len({r.body for r in replies}) == 1
        assert replies[0].body.endswith(b"data: [DONE]\n\n")
        assert sum(r.get("idempotent-replayed") is None for r in replies) == 1
        assert len(up.seen) == 1
        rows = eventually(lambda: usage(front.home, "--records"))
        assert len(rows) == 1 and rows[0]["output_tokens"] == 40
        assert rows[0]["request_id"] in up.seen


def test_a_cut_stream_goes_on(tmp_path):
    up = Upstream()
    body = {"model": "slow", "prompt": "hello", "max_tokens": 200, "stream": True}
    with start(tmp_path, up, "bud") as front:
        headers = [f"authorization: Bearer {front.key}", "bud-resume: 60"]
        with Raw(front.port) as raw:
            raw.request("POST", "/v1/completions", body, headers)
            raw.head()
            event = raw.chunk()
        last = event.split(b"\n")[0].decode().removeprefix("id: ")
        rest = front.request("POST", "/v1/completions", body, [f"Last-Event-ID: {last}"])
        assert rest.status == 200 and rest.body.count(b"data: {") == 199
        assert rest.body.endswith(b"data: [DONE]\n\n") and len(up.seen) == 1
        rows = eventually(lambda: usage(front.home, "--records"))
        assert [r["output_tokens"] for r in rows] == [200] and rows[0]["status"] == "ok"
        lost = front.request("POST", "/v1/completions", body, [f"Last-Event-ID: {last[:-1]}999"])
        assert lost.status == 404
