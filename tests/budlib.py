"""What the end-to-end and protocol tests share: the program under test, a running `bud serve`, a
client that sees raw HTTP/1.1 bytes, and the rule for absent data.

BUD_BIN names the program (default build/bud). Every server gets its own BUD_HOME and ports that
the system picks, and is stopped by its process id."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUD = os.path.abspath(os.environ.get("BUD_BIN") or os.path.join(ROOT, "build", "bud"))
MODEL = "bud-story-4m"
MODEL_FILE = os.path.join(ROOT, "models", MODEL + ".gguf")
STORIES = os.path.join(os.path.dirname(ROOT), "shared", "models", "stories260K.gguf")
# A slow engine makes work that lasts: the scalar reference on one thread.
SLOW = ["--backend", "ref", "--threads", "1"]
START_S = 20


def absent(what):
    """Skips the running test, saying what is absent; under CI=true that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is absent, and CI requires it")
    pytest.skip(f"{what} is absent")


def need_file(path):
    if not os.path.exists(path):
        absent(os.path.relpath(path, ROOT))


def bud(*words, text=None, home=None, env=None, timeout=60):
    """Runs the program to its end; the result has returncode, stdout and stderr as text."""
    if words[:1] == ("quantize",) and len(words) > 2:
        shared = os.path.realpath(os.path.join(os.path.dirname(ROOT), "shared"))
        assert not os.path.realpath(words[2]).startswith(shared), "the shared data is for reading only"
    env = dict(os.environ, **(env or {}))
    env["BUD_HOME"] = home or env.get("BUD_HOME") or os.path.join(tempfile.gettempdir(), "bud-absent")
    stdin = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([BUD, *words], capture_output=True, encoding="utf-8", errors="replace", env=env,
                          timeout=timeout, **stdin)


def token_ids(text, model=MODEL_FILE, special=True):
    run = bud("tokenize", model, text, "--json", *([] if special else ["--no-special"]))
    assert run.returncode == 0, run.stderr
    return [t["id"] for t in json.loads(run.stdout)]


def eventually(check, timeout_s=5.0, every_s=0.02):
    """The first true value of check(), or its last one when the time is over."""
    end = time.monotonic() + timeout_s
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(every_s)


class Serve:
    """A running `bud serve`. Its output goes to a file: `output()` is all of it, `events()` its log
    lines as objects."""

    def __init__(self, *args, home=None, env=None, wait=True, role="serve"):
        self.own_home = home is None
        self.home = home or tempfile.mkdtemp(prefix="bud-")
        self.log_path = tempfile.NamedTemporaryFile(prefix="bud-log-", delete=False).name
        full = dict(os.environ, BUD_HOME=self.home)
        full.pop("BUD_BOOTSTRAP_KEY_FILE", None)
        full.update(env or {})
        words = [BUD, role, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *args]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            env=full)
        self.pid = self.process.pid
        self.url = self.admin = self.key = None
        if wait:
            self.wait_ready()

    def output(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def events(self, action=None):
        rows = [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]
        return [r for r in rows if action is None or r.get("event.action") == action]

    def access(self, request_id):
        """The access line of one request, awaited: it comes when the exchange has closed."""
        def look():
            return [e for e in self.events("access") if e["http.request.id"] == request_id]
        rows = eventually(look)
        assert len(rows) == 1, f"{len(rows)} access lines of {request_id}"
        return rows[0]

    def wait_ready(self):
        ended = eventually(lambda: "is ready." in self.output() or self.process.poll() is not None, START_S)
        text = self.output()
        if not ended or "is ready." not in text:
            self.stop()
            raise AssertionError(f"bud serve did not become ready:\n{text}")
        eventually(lambda: re.search(r"^  models .*\n(.*\n)*\n", self.output(), re.M))
        self.read_addresses()

    def read_addresses(self):
        text = self.output()
        self.url = re.search(r"^  API +(https?://\S+)/v1$", text, re.M).group(1)
        self.admin = re.search(r"^  admin +(https?://\S+)$", text, re.M).group(1)
        key = re.search(r"^  key +(sk-bud-\S+)$", text, re.M)
        self.key = key.group(1) if key else None

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])

    @property
    def admin_port(self):
        return int(self.admin.rsplit(":", 1)[1])

    def child(self):
        """The process id of the `bud server` child, or None while there is none."""
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as f:
                    state, parent = f.read().rsplit(")", 1)[1].split()[:2]
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if int(parent) == self.pid and state != "Z" and b"server" in words[:2]:
                return int(name)
        return None

    def openai(self, **kwargs):
        from openai import OpenAI
        given = {"base_url": self.url + "/v1", "api_key": self.key, "max_retries": 0, "timeout": 60.0}
        return OpenAI(**{**given, **kwargs})

    def raw(self, **kwargs):
        return Raw(self.port, **kwargs)

    def link(self, method, path, body=None, headers=()):
        """One exchange with the model server itself, as the front door has them."""
        with Raw(glob.glob(os.path.join(self.home, "server-*.sock"))[0]) as r:
            r.request(method, path, body, headers)
            return r.response(method)

    def request(self, method, path, body=None, headers=(), key=True, admin=False):
        """One exchange on a connection of its own."""
        with Raw(self.admin_port if admin else self.port) as r:
            auth = [f"Authorization: Bearer {self.key}"] if key is True else []
            r.request(method, path, body, [*auth, *headers])
            return r.response(method)

    def signal(self, signum):
        self.process.send_signal(signum)

    def wait(self, timeout_s=30):
        return self.process.wait(timeout_s)

    def stop(self):
        """Ends it; returns the exit status. Fails when the program crashed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                # Live work is waited for; the second signal says: at once.
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(5)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
        text = self.output()
        os.unlink(self.log_path)
        if self.own_home:
            shutil.rmtree(self.home, ignore_errors=True)
        self.log_path = os.devnull
        assert "assertion failed" not in text and "end of crash report" not in text, text[-4000:]
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.log_path != os.devnull:
            self.stop()


class Response:
    def __init__(self, head, body, raw_body):
        self.head = head
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1])
        self.status_line = lines[0].decode()
        self.fields = [(n.decode().lower(), v.strip().decode()) for n, v in (x.split(b":", 1) for x in lines[1:])]
        self.body = body
        self.raw_body = raw_body

    def get(self, name):
        values = [v for n, v in self.fields if n == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    def error(self):
        """The error object, after a look at its shape."""
        assert self.get("content-type") == "application/json", self.head
        body = self.json()
        assert list(body) == ["error"] and set(body["error"]) == {"message", "type", "param", "code"}, body
        assert body["error"]["message"] and body["error"]["type"], body
        return body["error"]


class Raw:
    """One connection: to a TCP port of this machine, or to the UNIX socket with that path. Reads answers
    strictly: what RFC 9112 does not allow is an AssertionError."""

    def __init__(self, port, receive_bytes=None, timeout=20):
        unix = isinstance(port, str)
        self.sock = socket.socket(socket.AF_UNIX) if unix else socket.socket()
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout)
        self.sock.connect(port if unix else ("127.0.0.1", port))
        if not unix:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def request(self, method, path, body=None, headers=()):
        """`body` None = no body; a dict goes as JSON. Content-Length is added."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: bud.test", *headers]
        if body is not None:
            lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def fill(self):
        """Reads once; False at the end of the stream."""
        try:
            piece = self.sock.recv(65536)
        except ConnectionResetError:
            piece = b""
        self.data += piece
        return bool(piece)

    def take(self, n):
        while len(self.data) < n:
            assert self.fill(), f"the connection ended with {len(self.data)} of {n} bytes"
        taken, self.data = self.data[:n], self.data[n:]
        return taken

    def until(self, mark):
        while mark not in self.data:
            assert self.fill(), f"the connection ended before {mark!r}: {self.data[-300:]!r}"
        taken, self.data = self.data.split(mark, 1)
        return taken

    def head(self):
        head = self.until(b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.[01] \d{3} [ -~]*\r\n", head + b"\r\n"), head[:100]
        for line in head.split(b"\r\n")[1:]:
            assert re.match(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\t -~]*$", line), line
        return head

    def chunk(self):
        """One chunk's bytes; b"" is the last."""
        size = self.until(b"\r\n")
        assert re.fullmatch(rb"[0-9a-fA-F]+", size), size
        data = self.take(int(size, 16))
        assert self.take(2) == b"\r\n"
        return data

    def response(self, method="GET"):
        head = self.head()
        r = Response(head, b"", b"")
        if method == "HEAD" or r.status in (204, 304) or r.status < 200:
            return r
        assert not (r.get("transfer-encoding") and r.get("content-length")), head
        if r.get("transfer-encoding"):
            assert r.get("transfer-encoding") == "chunked"
            pieces = []
            while True:
                piece = self.chunk()
                if not piece:
                    break
                pieces.append(piece)
            r.body = b"".join(pieces)
        elif r.get("content-length") is not None:
            r.body = self.take(int(r.get("content-length")))
        else:
            r.body = self.rest()
        return r

    def rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        taken, self.data = self.data, b""
        return taken

    def is_closed(self, within_s=5):
        """Whether the server ends the connection, with nothing more to say."""
        self.sock.settimeout(within_s)
        try:
            return self.data == b"" and not self.fill()
        except TimeoutError:
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def sse_events(body):
    """The data of each event, after a look at the exact framing: one comment with the stages' times
    stands before the last event."""
    text = body.decode()
    assert text.endswith("\n\n"), text[-50:]
    events = text[:-2].split("\n\n")
    if len(events) > 1 and re.fullmatch(r": server-timing [a-z]+;dur=[^\n\r]*", events[-2]):
        del events[-2]
    for e in events:
        assert re.fullmatch(r"data: [^\n\r]*", e), repr(e[:200])
    return [e[len("data: "):] for e in events]
