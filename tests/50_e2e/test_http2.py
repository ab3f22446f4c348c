"""HTTP/2 at the front door: the official SDK over httpx's HTTP/2, many streams on one connection,
what a client may not do, and h2spec's cases."""
import asyncio
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess

import httpx
import openai
import pytest

from budlib import MODEL, ROOT, Serve, absent, bud, eventually


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("certs"))
    run = bud("cert", "make", "--dir", folder, "localhost", "127.0.0.1")
    assert run.returncode == 0, run.stderr
    flags = ["--tls-cert", f"{folder}/localhost.pem", "--tls-key", f"{folder}/localhost.key", "--metrics-open"]
    with Serve(*flags) as s:
        s.ca = f"{folder}/ca.pem"
        yield s


def context(door, *protocols):
    c = ssl.create_default_context(cafile=door.ca)
    if protocols:
        c.set_alpn_protocols(list(protocols))
    return c


def client_of(door, **more):
    return httpx.Client(http2=True, verify=context(door), base_url=f"https://localhost:{door.port}", timeout=30,
                        headers={"authorization": f"Bearer {door.key}"}, **more)


def sdk(door):
    return openai.OpenAI(base_url=f"https://localhost:{door.port}/v1", api_key=door.key, max_retries=0,
                         http_client=httpx.Client(http2=True, verify=context(door), timeout=60))


def refusals(door, reason):
    text = httpx.get(f"https://localhost:{door.admin_port}/metrics", verify=context(door)).text
    found = re.search(rf'bud_http_refused_total{{reason="{reason}"}} (\d+)', text)
    return int(found.group(1)) if found else 0


class Frames:
    """A client that writes frames as it likes."""

    def __init__(self, door):
        raw = socket.create_connection(("127.0.0.1", door.port), 20)
        self.sock = context(door, "h2").wrap_socket(raw, server_hostname="localhost")
        assert self.sock.selected_alpn_protocol() == "h2"
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(4, 0, 0)
        self.data = b""

    def send(self, kind, flags, stream, payload=b""):
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self.sock.sendall(head + payload)

    def take(self, n):
        while len(self.data) < n:
            piece = self.sock.recv(65536)
            if not piece:
                return None
            self.data += piece
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def frame(self):
        """(kind, flags, stream, payload), or None at the end of the connection."""
        try:
            head = self.take(9)
            payload = self.take(int.from_bytes(head[:3], "big")) if head else None
        except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
            return None
        return (head[3], head[4], int.from_bytes(head[5:], "big"), payload) if head else None

    def goaway(self):
        """The error code of the GOAWAY that ends the connection, or None when it just ends."""
        while (frame := self.frame()) is not None:
            if frame[0] == 7:
                return int.from_bytes(frame[3][4:8], "big")
        return None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()


def request(path, method=b"GET", extra=b""):
    """A header block of literals without indexing."""
    def field(name, value):
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return (field(b":method", method) + field(b":scheme", b"https") + field(b":path", path) +
            field(b":authority", b"localhost") + extra)


def test_the_sdk_speaks_http2(door):
    with sdk(door) as client:
        answer = client.completions.with_raw_response.create(model=MODEL, prompt="Once", max_tokens=4)
        assert answer.http_response.http_version == "HTTP/2"
        assert answer.parse().usage.completion_tokens == 4
        parts = list(client.completions.create(model=MODEL, prompt="Once", max_tokens=40, stream=True))
        assert parts[-1].choices[0].finish_reason
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="nobody", prompt="x")
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sk-wrong").models.list()


def test_streams_share_a_connection(door):
    asked = {"model": MODEL, "prompt": "Once", "max_tokens": 16, "temperature": 0, "seed": 1}

    async def work(client, n):
        if n % 2:
            return (await client.completions.create(**asked)).choices[0].text
        return "".join([c.choices[0].text async for c in await client.completions.create(**asked, stream=True)])

    async def all_at_once():
        # On one loop: a connection of httpx's may not be written by several threads.
        http = httpx.AsyncClient(http2=True, verify=context(door), timeout=60, limits=httpx.Limits(max_connections=1))
        async with openai.AsyncOpenAI(base_url=f"https://localhost:{door.port}/v1", api_key=door.key, max_retries=0,
                                      http_client=http) as client:
            return await asyncio.gather(*(work(client, n) for n in range(60)))
    assert len(set(asyncio.run(all_at_once()))) == 1


def test_large_bodies_and_their_limits(door):
    with client_of(door) as client:
        body = {"model": MODEL, "prompt": "x" * (3 << 20), "max_tokens": 1}
        answer = client.post("/v1/completions", json=body)
        assert answer.http_version == "HTTP/2" and answer.status_code == 400 # longer than the context
        assert client.get("/livez").status_code == 200
        assert client.get("/" + "x" * 9000).status_code == 414
        assert client.get("/livez", headers={"x-long": "y" * 40000}).status_code == 431
        assert client.request("BREW", "/livez").status_code == 501
        head = client.head("/livez")
        assert head.status_code == 200 and head.content == b""


def test_a_body_over_the_limit(door, tmp_path):
    """curl hears the answer while it still sends; httpx does not listen before it has sent all."""
    path = tmp_path / "body"
    path.write_bytes(b"[" + b" " * (33 << 20) + b"]")
    run = subprocess.run(["curl", "-s", "--http2", "--cacert", door.ca, "-o", "/dev/null", "-w",
                          "%{http_code} %{http_version}", "-H", f"Authorization: Bearer {door.key}", "--data-binary",
                          f"@{path}", f"https://localhost:{door.port}/v1/completions"], capture_output=True, text=True,
                         timeout=60)
    assert run.stdout == "413 2", run


def test_a_hang_up_frees_the_slot(door):
    with client_of(door) as client:
        before = len(door.events("access"))
        with client.stream("POST", "/v1/completions",
                           json={"model": MODEL, "prompt": "Once", "max_tokens": 4000, "stream": True}) as answer:
            next(answer.iter_raw())
        assert eventually(lambda: len(door.events("access")) > before)
        assert client.get("/livez").status_code == 200 # the connection goes on


def test_rapid_resets_end_the_connection(door):
    with Frames(door) as f:
        try:
            for n in range(2000):
                f.send(1, 5, 2 * n + 1, request(b"/livez"))
                f.send(3, 0, 2 * n + 1, struct.pack(">I", 8))
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass
        assert f.goaway() in (11, 2, 0, None)
    assert httpx.get(f"https://localhost:{door.port}/livez", verify=context(door)).status_code == 200


@pytest.mark.parametrize("kind,stream,payload", [(6, 0, b"12345678"), (4, 0, b""), (2, 1, b"\0\0\0\3\1")],
                         ids=["ping", "settings", "priority"])
def test_floods_of_idle_frames_end_the_connection(door, kind, stream, payload):
    before = refusals(door, "frame_flood")
    with Frames(door) as f:
        try:
            for _ in range(3000):
                f.send(kind, 0, stream, payload)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass
        f.goaway()
    assert refusals(door, "frame_flood") == before + 1


def test_endless_heads_end_the_connection(door):
    with Frames(door) as f: # CONTINUATION without an end
        try:
            f.send(1, 1, 1, request(b"/livez"))
            for n in range(100):
                f.send(9, 0, 1, b"\x00\x05x-abc\x7f\x00" + b"y" * 127)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass
        f.goaway()
        assert f.frame() is None
    before = refusals(door, "head_flood")
    with Frames(door) as f: # a header from the table, again and again: 1 byte each
        big = b"\x40\x05x-big\x7f\x81\x1e" + b"z" * (127 + 0x81 - 0x80 + (0x1e << 7))
        try:
            f.send(1, 5, 1, request(b"/livez", extra=big + b"\xbe" * 8000))
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            pass
        assert f.goaway() == 11
    assert refusals(door, "head_flood") == before + 1


def test_one_connection_has_so_many_streams(door):
    with Frames(door) as f:
        for n in range(150): # heads of requests whose bodies never come
            f.send(1, 4, 2 * n + 1, request(b"/v1/completions", b"POST"))
        refused = 0
        f.send(6, 0, 0, b"the end.")
        while (frame := f.frame())[0] != 6:
            refused += frame[0] == 3 and frame[3] == struct.pack(">I", 7)
        # Without a key each is answered at once, so that places come back; none is lost.
        assert refused <= 50


def test_h2spec(door, tmp_path):
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        absent("the Go tool, for h2spec")
    built = subprocess.run([os.path.join(ROOT, "tools", "h2spec"), "--build"], capture_output=True, text=True,
                           timeout=300)
    if built.returncode == 3:
        absent("h2spec (its Go module could not be had)")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([built.stdout.strip(), "-t", "-k", "-h", "localhost", "-p", str(door.port), "-P", "/livez",
                          "-o", "5"], capture_output=True, text=True, timeout=300)
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", run.stdout)
    assert summary, run.stdout[-2000:] + run.stderr[-2000:]
    failures = run.stdout[run.stdout.find("Failures:"):] if "Failures:" in run.stdout else ""
    assert int(summary.group(4)) == 0, failures
    assert int(summary.group(1)) > 100
