"""Answers kept in a real Redis server, by two gateways of one store: what one makes is given, joined and
continued at the other; whichever of them is killed, no request is billed twice."""
import contextlib
import os
import signal
import tempfile
import threading

import pytest

from budlib import Raw, eventually
from test_leases import Redis
from test_usage import Upstream, start, usage

BODY = {"model": "slow", "prompt": "hello", "stream": True}


@pytest.fixture(name="redis")
def fixture_redis(tmp_path_factory):
    r = Redis(tmp_path_factory.mktemp("redis"))
    yield r
    r.stop(signal.SIGKILL)


@contextlib.contextmanager
def pair(tmp_path, redis):
    """Two gateways with one home, and the model server behind both."""
    up = Upstream()
    config = f"redis: {{url: 'unix:{redis.path}'}}\ngateway: {{loops: 2}}\n"
    with tempfile.TemporaryDirectory(prefix="bud-") as home, \
            start(tmp_path, up, "bud", home=home, config=config) as a, \
            start(tmp_path, up, "bud", home=home, config=config) as b:
        yield a, b, up


def ask(front, key, n, **more):
    return front.request("POST", "/v1/completions", {**BODY, "max_tokens": n, **more}, [f"Idempotency-Key: {key}"])


def begin(front, key, n):
    """Asks, and returns when the first event is there: the connection, and the event with its id."""
    raw = Raw(front.port)
    raw.request("POST", "/v1/completions", {**BODY, "max_tokens": n},
                [f"Authorization: Bearer {front.key}", f"Idempotency-Key: {key}"])
    assert b" 200 " in raw.head().split(b"\r\n")[0]
    return raw, raw.chunk()


def event_id(event):
    return event.split(b"\n")[0].decode().removeprefix("id: ")


def rest(raw):
    """What comes on a stream up to its end, or up to where its connection breaks."""
    while b"\r\n0\r\n\r\n" not in raw.data and raw.fill():
        pass
    return raw.data


def records(front, n):
    return eventually(lambda: (lambda r: r if len(r) == n else None)(usage(front.home, "--records")), 20)


def test_the_other_gateway_replays_and_joins(tmp_path, redis):
    with pair(tmp_path, redis) as (a, b, up):
        first = ask(a, "one", 30)
        again = ask(b, "one", 30)
        assert first.status == again.status == 200 and first.body == again.body
        assert first.get("idempotent-replayed") is None and again.get("idempotent-replayed") == "true"
        assert again.get("original-request") == first.get("x-request-id")
        refused = ask(b, "one", 31)
        assert refused.status == 409 and refused.error()["code"] == "idempotency_key_reused"
        raw, event = begin(a, "two", 400)
        joined = ask(b, "two", 400)
        assert joined.status == 200 and joined.body.count(b"data: {") == 400
        assert joined.body.startswith(event) and joined.get("idempotent-replayed") == "true"
        assert rest(raw).count(b"data: {") == 399
        raw.sock.close()
        rows = records(a, 2)
        assert sorted(r["output_tokens"] for r in rows) == [30, 400]
        assert len(up.seen) == 2


def test_a_cut_stream_goes_on_at_the_other(tmp_path, redis):
    with pair(tmp_path, redis) as (a, b, up):
        raw, event = begin(a, "one", 300)
        raw.sock.close()
        last = event_id(event)
        body = {**BODY, "max_tokens": 300}
        more = b.request("POST", "/v1/completions", body, [f"Last-Event-ID: {last}"])
        assert more.status == 200 and more.body.count(b"data: {") == 299
        assert more.body.endswith(b"data: [DONE]\n\n")
        rows = records(a, 1)
        assert rows[0]["output_tokens"] == 300 and rows[0]["status"] == "ok" and len(up.seen) == 1


def test_the_writer_is_killed(tmp_path, redis):
    with pair(tmp_path, redis) as (a, b, up):
        whole = ask(a, "whole", 20)
        raw, _ = begin(a, "broken", 100000)
        follower, event = begin(b, "broken", 100000)
        a.process.kill()
        a.process.wait()
        got = rest(follower)
        assert b'"code":"interrupted"' in got and b"[DONE]" not in got
        follower.sock.close()
        raw.sock.close()
        last = event_id(event)
        again = b.request("POST", "/v1/completions", {**BODY, "max_tokens": 100000}, [f"Last-Event-ID: {last}"])
        assert again.status == 200 and b'"code":"interrupted"' in again.body  # what is there, and why no more
        assert ask(b, "whole", 20).body == whole.body
        assert len(up.seen) == 2
        # Its key begins anew; a gateway that is started again settles what the dead one had open.
        anew, _ = begin(b, "broken", 100000)
        assert len(up.seen) == 3
        anew.sock.close()
        config = f"redis: {{url: 'unix:{redis.path}'}}\n"
        with start(tmp_path, up, "bud", home=a.home, config=config) as c:
            assert ask(c, "whole", 20).body == whole.body
            done = eventually(lambda: [r for r in usage(c.home, "--records") if r["status"] == "interrupted"], 20)
            assert len(done) == 1 and done[0]["output_tokens"] > 0
            mine = [r for r in usage(c.home, "--records") if r["output_tokens"] == 20]
            assert len(mine) == 1 and mine[0]["status"] == "ok"


def test_redis_is_killed(tmp_path, redis):
    with pair(tmp_path, redis) as (a, b, up):
        first = ask(a, "one", 20)
        raw, event = begin(a, "runs", 500)
        redis.stop(signal.SIGKILL)
        refused = ask(b, "one", 20)
        assert refused.status == 503 and refused.error()["code"] == "unavailable"
        assert float(refused.get("retry-after")) > 0
        assert ask(a, "two", 20).status == 503
        assert len(up.seen) == 2
        assert ask(a, "one", 20).body == first.body  # its own
        plain = b.request("POST", "/v1/completions", {**BODY, "max_tokens": 5})
        kept = b.request("POST", "/v1/completions", {**BODY, "max_tokens": 6}, ["bud-resume: 30"])
        assert plain.status == kept.status == 200
        os.unlink(redis.path)
        redis.start()
        # What runs is told to the new one, which until then knows nothing of it; keys are taken again.
        body, last = {**BODY, "max_tokens": 500}, [f"Last-Event-ID: {event_id(event)}"]
        more = eventually(lambda: (lambda r: r if r.status == 200 else None)(
            b.request("POST", "/v1/completions", body, last)), 20)
        assert more.body.count(b"data: {") == 499 and ask(b, "runs", 500, prompt="other").status == 409
        joined = ask(b, "runs", 500)
        assert joined.status == 200 and joined.body.count(b"data: {") == 500 and joined.body.startswith(event)
        assert rest(raw).endswith(b"0\r\n\r\n")
        raw.sock.close()
        assert ask(b, "two", 20).status == 200
        assert sorted(r["output_tokens"] for r in records(a, 5)) == [5, 6, 20, 20, 500]


def test_many_at_both_share_one_call(tmp_path, redis):
    with pair(tmp_path, redis) as (a, b, up):
        replies, lock = [], threading.Lock()

        def client(i):
            reply = ask((a, b)[i % 2], "one", 60)
            with lock:
                replies.append(reply)
        threads = [threading.Thread(target=client, args=(i,)) for i in range(32)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert {r.status for r in replies} == {200} and len({r.body for r in replies}) == 1
        assert sum(r.get("idempotent-replayed") is None for r in replies) == 1
        assert len(up.seen) == 1 and records(a, 1)[0]["output_tokens"] == 60
