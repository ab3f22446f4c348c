"""Two gateways that share their limits through a real Redis server: together they spend what one may."""
import concurrent.futures
import json
import os
import shutil
import signal
import socket
import subprocess

import pytest

from budlib import MODEL, Serve, absent, eventually

CATALOGUE = """
models:
  - name: day
    limits: {tokens_per_day: 4000}
    versions: [{name: v1, upstreams: [local], model: %(model)s}]
  - name: minute
    limits: {requests_per_minute: 60}
    versions: [{name: v1, upstreams: [local], model: %(model)s}]
  - name: money
    limits: {money_per_month: 0.004}
    price: {input: 1, output: 1}
    versions: [{name: v1, upstreams: [local], model: %(model)s}]
  - name: away
    limits: {requests_per_minute: 100000}
    versions: [{name: v1, upstreams: [local], model: %(model)s}]
""" % {"model": MODEL}

CLIENTS = 64


class Redis:
    def __init__(self, folder):
        if not shutil.which("redis-server"):
            absent("redis-server")
        self.folder, self.path = str(folder), str(folder / "redis.sock")
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "",
                                         "--dir", self.folder], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(self.answers, 20)

    def answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.path) == 0

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        self.process.wait(20)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    r = Redis(tmp_path_factory.mktemp("redis"))
    yield r
    r.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory, redis):
    folder = tmp_path_factory.mktemp("gateways")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    (folder / "bud.yaml").write_text(f"redis: {{url: 'unix:{redis.path}'}}\nlimits: {{shared: true}}\n"
                                     "gateway: {loops: 2}\n")
    key = "sk-bud-" + "0123456789abcdefABCDEF" + "A" * 21
    (folder / "key").write_text(key)
    both = []
    try:
        for _ in range(2):
            s = Serve("--config", str(folder / "bud.yaml"), "--catalogue", str(folder / "catalogue.yaml"),
                      env={"BUD_BOOTSTRAP_KEY_FILE": str(folder / "key")})
            both.append(s)
            s.key = key
        yield both
    finally:
        for s in both:
            s.stop()


def ask(server, model):
    body = {"model": model, "prompt": "Once", "max_tokens": 8, "temperature": 0}
    return server.request("POST", "/v1/completions", body)


def spend(gateways, model):
    """Every client asks until it is refused; what each answer used."""
    def client(idx):
        used = []
        while True:
            reply = ask(gateways[idx % len(gateways)], model)
            if reply.status == 429:
                return used
            assert reply.status == 200, reply.body
            used.append(reply.json()["usage"]["total_tokens"])
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return [u for used in pool.map(client, range(CLIENTS)) for u in used]


def test_tokens_of_a_day(gateways):
    used = sum(spend(gateways, "day"))
    assert 0.95 * 4000 <= used <= 4000
    assert all(ask(g, "day").status == 429 for g in gateways)


def test_requests_of_a_minute(gateways):
    assert 60 <= len(spend(gateways, "minute")) <= 120  # a minute's worth, and what drained on the way


def test_money_of_a_month(gateways):
    used = sum(spend(gateways, "money"))
    assert 0.95 * 4000 <= used <= 4000  # a millionth for each


def test_redis_away_and_back(gateways, redis):
    """Closed: 503 to who is limited, at once; it recovers by itself, and knows what was used."""
    spend(gateways, "day")
    assert all(ask(g, "away").status == 200 for g in gateways)
    redis.stop(signal.SIGKILL)
    for g in gateways:
        def refused():
            reply = ask(g, "away")
            return reply if reply.status == 503 else None
        reply = eventually(refused, 20)
        assert reply and reply.error()["code"] == "unavailable" and float(reply.get("retry-after")) > 0
        assert ask(g, MODEL).status == 200  # nobody limits it
        path = "/admin/v1/requests/" + reply.get("x-request-id")
        assert eventually(lambda: g.request("GET", path, admin=True).status == 200)
        row = g.request("GET", path, admin=True).json()
        assert '"store_away"' in json.dumps(row), row
    os.unlink(redis.path)
    redis.start()
    for g in gateways:
        assert eventually(lambda: ask(g, "away").status == 200, 20)
        assert ask(g, "day").status == 429
        assert g.events("limits-away") and g.events("redis-well")
