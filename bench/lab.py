"""What the rows of bench/compare measure with: the two programs, their servers, model files, the
memory stream; and medians.

Programs run one at a time. Everything started is ended by its process id, also after a failure."""
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SMALL = os.path.join(ROOT, "models", "bud-story-4m.gguf")


class Failed(Exception):
    """Something could not be measured; the message says what and why."""


def last_lines(text, n=3):
    return " | ".join(text.strip().splitlines()[-n:])


def run(words, timeout=600, env=None):
    """Standard output of a program that must succeed."""
    try:
        r = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=timeout,
                           stdin=subprocess.DEVNULL, env=dict(os.environ, **(env or {})))
    except subprocess.TimeoutExpired:
        raise Failed(f"{os.path.basename(words[0])} took more than {timeout} s") from None
    if r.returncode != 0:
        told = " ".join(words[:8]) + (" …" if len(words) > 8 else "")
        raise Failed(f"{told}: exit {r.returncode}: {last_lines(r.stderr + r.stdout)}")
    return r.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server. `wait` looks at its output and says whether it is ready."""

    def __init__(self, words, ready, env=None, limit_s=120):
        self.log = tempfile.TemporaryFile(mode="w+", errors="replace")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
                                        env=dict(os.environ, **(env or {})))
        self.url = self.key = None
        end = time.monotonic() + limit_s
        while not ready(self):
            if self.process.poll() is not None or time.monotonic() > end:
                text = self.output()
                self.stop()
                raise Failed(f"{os.path.basename(words[0])} did not become ready: {last_lines(text)}")
            time.sleep(0.05)

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Ours:
    """`bud`: bench, serve."""
    name = "bud"

    def __init__(self, program, threads, scratch, commit):
        self.program, self.threads, self.scratch = program, threads, scratch
        self.version = run([program, "version"]).split()[-1]
        # The last commit that touched the program.
        head = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%h", "--", "src", "mk"], capture_output=True,
                              text=True)
        self.commit = commit or head.stdout.strip() or "unknown"

    def bench(self, model, *words):
        """The rows of `bud bench`, one round."""
        return json.loads(run([self.program, "bench", model, "-t", str(self.threads), "-r", "1", "--json", *words]))["rows"]

    def stream(self):
        """GB/s of plain reading, now."""
        return self.bench(SMALL, "-p", "0", "-n", "1")[0]["stream_gb_per_s"]

    def serve(self, model, *words):
        def ready(s):
            found = re.search(r"^  API +(http://\S+)/v1$.*^  key +(\S+)$", s.output(), re.M | re.S)
            if found and "is ready." in s.output():
                s.url, s.key = found.groups()
            return s.url is not None
        home = tempfile.mkdtemp(prefix="home-", dir=self.scratch)
        s = Server([self.program, "serve", "--model", model, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
                    "--threads", str(self.threads), *words], ready, env={"BUD_HOME": home})
        return s

    def load(self, server, *words):
        """`bud load` against any server; a report in which something failed is a failure."""
        env = {"OPENAI_API_KEY": server.key or ""}
        d = json.loads(run([self.program, "load", server.url, "--json", *words], env=env))
        if d["failed"]:
            raise Failed(f"{d['failed']} of {d['ok'] + d['failed']} requests failed: {d['errors'][0]['what']}")
        return d


class Peer:
    """llama.cpp's tools in the `bin` of a build folder."""
    name = "llama.cpp"

    def __init__(self, folder, threads):
        self.folder, self.threads = folder, threads
        self.flags = self.build_flags()
        text = subprocess.run([self.tool("llama-bench"), "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True).stdout
        found = re.search(r"version: *(.*)", text)
        self.version = found.group(1).strip() if found else "unknown"

    def tool(self, name):
        for path in (os.path.join(self.folder, "bin", name), os.path.join(self.folder, name)):
            if os.access(path, os.X_OK):
                return path
        raise Failed(f"{self.folder} holds no {name}: build it (bench/README.md says how)")

    def build_flags(self):
        """The settings that decide speed, from the build's own cache."""
        wanted = ("CMAKE_BUILD_TYPE", "CMAKE_CXX_COMPILER", "CMAKE_CXX_FLAGS", "CMAKE_CXX_FLAGS_RELEASE", "GGML_NATIVE",
                  "GGML_OPENMP", "GGML_LLAMAFILE", "GGML_BLAS", "GGML_LTO")
        path = os.path.join(self.folder, "CMakeCache.txt")
        if not os.path.exists(path):
            raise Failed(f"{path} is absent: give the build folder of llama.cpp")
        with open(path, encoding="utf-8", errors="replace") as f:
            rows = dict(re.findall(r"^(\w+):\w+=(.*)$", f.read(), re.M))
        flags = {name: rows[name] for name in wanted if rows.get(name)}
        if flags.get("CMAKE_BUILD_TYPE") != "Release" or flags.get("GGML_NATIVE") != "ON":
            raise Failed(f"the peer must be a native Release build; {path} says {flags}")
        return flags

    def bench(self, model, *words):
        """Tokens per second of the best repetition (it gets the benefit) of each test."""
        out = run([self.tool("llama-bench"), "-m", model, "-t", str(self.threads), "-o", "json", *words])
        return [max(test["samples_ts"]) for test in json.loads(out[out.index("["):])]

    def batched(self, model, *words):
        out = run([self.tool("llama-batched-bench"), "-m", model, "-t", str(self.threads), "-tb", str(self.threads),
                   "--output-format", "jsonl", *words])
        rows = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
        if not rows:
            raise Failed("llama-batched-bench gave no figures: " + last_lines(out))
        return [row["speed_tg"] for row in rows]

    def serve(self, model, *words):
        port = free_port()

        def ready(s):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    s.url = f"http://127.0.0.1:{port}" if answer.status == 200 else None
            except OSError:
                pass
            return s.url is not None
        return Server([self.tool("llama-server"), "-m", model, "--host", "127.0.0.1", "--port", str(port),
                       "-t", str(self.threads), *words], ready)


class Models:
    """Model files with random weights, made when a row first asks; kept only in a folder that was given."""

    def __init__(self, given, scratch, seed=None):
        self.seed = [] if seed is None else ["--seed", str(seed)]
        self.folder = given or os.path.join(scratch, "models")
        os.makedirs(self.folder, exist_ok=True)

    def get(self, shape, kind):
        path = os.path.join(self.folder, f"{shape}-{kind}.gguf")
        if not os.path.exists(path):
            python = os.path.join(ROOT, ".venv", "bin", "python")
            python = python if os.access(python, os.X_OK) else sys.executable
            print(f"making {os.path.basename(path)}", file=sys.stderr, flush=True)
            run([python, os.path.join(ROOT, "tools", "make_model.py"), shape, kind, *self.seed, "-o", path + ".part"])
            os.rename(path + ".part", path)
        return path


def machine():
    """What decides speed here, in a few words each."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        text = f.read()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    flags = set(re.search(r"^flags\s*: (.*)$", text, re.M).group(1).split()) if "flags" in text else set()
    names = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8"]
    return {"processor": model.group(1) if model else "unknown", "cores": len(os.sched_getaffinity(0)),
            "isa": [n for n in names if n in flags]}


class Others:
    """How much of the machine's processors the rest of the world takes: what /proc/stat counts as
    used or stolen, less what this process and all that it has started used."""

    def __init__(self):
        self.at, self.used = time.monotonic(), self.seconds()

    def share(self):
        # Ticks are hundredths of a second: of a short time they can make more than there is.
        used = max(0.0, self.seconds() - self.used) / (time.monotonic() - self.at) / os.cpu_count()
        return min(used, 1.0)

    @staticmethod
    def seconds():
        with open("/proc/stat", encoding="ascii") as f:
            user, nice, system, _, _, irq, softirq, steal = (int(n) for n in f.readline().split()[1:9])
        parents, ticks = {}, {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                        words = f.read().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(name)], ticks[int(name)] = int(words[1]), sum(int(n) for n in words[11:15])
        family, more = set(), {os.getpid()}
        while more:
            family |= more
            more = {p for p, parent in parents.items() if parent in family} - family
        mine = sum(ticks.get(p, 0) for p in family)
        return (user + nice + system + irq + softirq + steal - mine) / os.sysconf("SC_CLK_TCK")


def median(values):
    return statistics.median(values)
