"""What stands between load and upstream: ours, nginx, HAProxy, and LiteLLM on request. Each gets core 0;
everything else runs on the others."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUD = os.path.abspath(os.environ.get("BUD_BIN") or os.path.join(ROOT, "build", "bud"))
MANY = 100  # upstreams of the idle gateway
LITELLM = os.path.join(ROOT, "build", "peers", "litellm")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


class Proxy:
    """A running one: `pid` is the process that forwards."""

    def __init__(self, name, pid, port, log=None):
        self.name, self.pid, self.port, self.log = name, pid, port, log

    def cpu_s(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self):
        with open(f"/proc/{self.pid}/statm", encoding="utf-8") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def forget_log(self):
        """The access log is written to a file, which a long run would fill."""
        if self.log is not None:
            os.truncate(self.log, 0)


class Lab:
    """Programs under way and their files; all of it is gone after close()."""

    def __init__(self):
        self.dir, self.children = tempfile.mkdtemp(prefix="bud-bench-"), []
        last = os.cpu_count() - 1
        self.proxy_core = ["taskset", "-c", "0"]
        self.load_cores = ["taskset", "-c", f"1-{last}" if last > 1 else "1"]
        self.upstream = free_port()
        program = os.path.join(ROOT, "build", "bench", "gateway", "upstream")
        self.far = self.start(self.load_cores + [program, str(self.upstream)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
        wait_port(self.upstream)
        self.key = "none"

    def path(self, name, text=None):
        path = os.path.join(self.dir, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return path

    def start(self, words, **more):
        child = subprocess.Popen(words, **{"stdin": subprocess.DEVNULL, **more})
        self.children.append(child)
        return child

    def ask_paced(self, port, rate, seconds, request):
        """Requests at even times, by the upstream itself (upstream.c says why): what it measured."""
        path = self.path("request.txt", request)
        self.far.stdin.write(f"{port} {rate} {seconds} {path}\n")
        self.far.stdin.flush()
        got = {}
        for line in self.far.stdout:
            name, value = line.split()
            if name == "done":
                return got
            got[name] = float(value)
        sys.exit("the paced load failed")

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def stop(self, proxy):
        os.kill(proxy.pid, signal.SIGTERM)

    # ---- ours ----

    def make_key(self, home):
        words = [BUD, "key", "create", "--json", "--project", "p"]
        for limit in ("requests_per_minute=100000000", "tokens_per_minute=100000000", "concurrent=100000"):
            words += ["--limit", limit]
        run = subprocess.run(words, env=dict(os.environ, BUD_HOME=home), capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(run.stderr)
        return json.loads(run.stdout)["key"]

    def certificate(self):
        """Files of a certificate and its key."""
        if not os.path.exists(self.path("127.0.0.1.pem")):
            subprocess.run([BUD, "cert", "make", "127.0.0.1", "--dir", self.dir], check=True, stdout=subprocess.DEVNULL)
        return self.path("127.0.0.1.pem"), self.path("127.0.0.1.key")

    def start_gateway(self, name, cores, catalogue, *options):
        port, home = free_port(), self.path(name)
        if not os.path.exists(home):  # the TLS listener has the keys of the plain one
            key = self.make_key(home)
            self.key = key if name == "bud" else self.key
        log_path = self.path(name + ".log")
        with open(log_path, "ab") as log:
            child = self.start(cores + [BUD, "gateway", "--listen", f"127.0.0.1:{port}", "--admin-listen",
                                        "127.0.0.1:0", "--catalogue", self.path(name + ".yaml", json.dumps(catalogue)),
                                        *options],
                               env=dict(os.environ, BUD_HOME=home), stdout=log, stderr=log)
        wait_port(port)
        return Proxy(name, child.pid, port, log_path)

    def start_bud(self, *options):
        """Everything is on: keys, limits of key, project and model, prices, usage, metrics, the access log."""
        return self.start_gateway("bud", self.proxy_core, {
            "projects": [{"name": "p", "limits": {"tokens_per_day": 10 ** 14, "concurrent": 100000}}],
            "upstreams": [{"name": "u", "url": f"http://127.0.0.1:{self.upstream}", "price": {"input": 1, "output": 2}}],
            "models": [{"name": "bench", "versions": [{"name": "1", "upstreams": ["u"]}],
                        "limits": {"tokens_per_day": 10 ** 14}}]}, *options)

    def start_bud_tls(self):
        cert, key = self.certificate()
        return self.start_bud("--tls-cert", cert, "--tls-key", key)

    def start_idle(self):
        """A gateway with many upstreams, which nobody asks anything."""
        names = [f"u{i}" for i in range(MANY)]
        return self.start_gateway("idle", self.load_cores, {
            "upstreams": [{"name": n, "url": f"http://127.0.0.1:{self.upstream}"} for n in names],
            "models": [{"name": n, "versions": [{"name": "1", "upstreams": [n]}]} for n in names]})

    # ---- peers ----

    def start_nginx(self, buffering, tls=False):
        port, name = free_port(), f"nginx-{buffering}" + ("-tls" if tls else "")
        cert, key = self.certificate() if tls else ("", "")
        ssl = f"ssl_protocols TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key};" if tls else ""
        temp = "".join(f"{kind}_temp_path {self.path(name + kind)};" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        conf = self.path(name + ".conf", f"""{user} worker_processes 1; daemon off; pid {self.path(name + '.pid')};
error_log {self.path(name + '.err')}; events {{ worker_connections 20000; }}
http {{ access_log off; {temp} keepalive_requests 1000000000; keepalive_timeout 300s; client_max_body_size 32m;
 client_body_buffer_size 4m; upstream u {{ server 127.0.0.1:{self.upstream}; keepalive 256; }}
 server {{ listen 127.0.0.1:{port}{" ssl" if tls else ""}; {ssl} location / {{ proxy_pass http://u; proxy_http_version 1.1;
  proxy_set_header Connection ""; proxy_buffering {buffering}; }} }} }}""")
        with open(self.path(name + ".out"), "wb") as out:
            child = self.start(self.proxy_core + ["nginx", "-c", conf, "-e", self.path(name + ".err")], stderr=out)
        wait_port(port)
        while True:
            worker = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
            if worker:
                return Proxy("nginx", int(worker[0]), port)
            time.sleep(0.02)

    def start_haproxy(self):
        port = free_port()
        conf = self.path("haproxy.cfg", f"""global
 nbthread 1
 maxconn 9000
defaults
 mode http
 timeout connect 5s
 timeout client 300s
 timeout server 300s
 http-reuse always
frontend f
 bind 127.0.0.1:{port}
 default_backend b
backend b
 server s 127.0.0.1:{self.upstream}
""")
        child = self.start(self.proxy_core + ["haproxy", "-f", conf])
        wait_port(port)
        return Proxy("haproxy", child.pid, port)

    def start_litellm(self):
        """From PyPI, into a folder below build/ when it is not there yet."""
        program = os.path.join(LITELLM, "bin", "litellm")
        if not os.path.exists(program):
            subprocess.run([sys.executable, "-m", "venv", LITELLM], check=True)
            subprocess.run([os.path.join(LITELLM, "bin", "pip"), "install", "-q", "litellm[proxy]"], check=True)
        port = free_port()
        conf = self.path("litellm.yaml", json.dumps({
            "model_list": [{"model_name": "bench", "litellm_params": {
                "model": "openai/bench", "api_key": "none", "api_base": f"http://127.0.0.1:{self.upstream}/v1"}}]}))
        with open(self.path("litellm.out"), "wb") as out:
            child = self.start(self.proxy_core + [program, "--config", conf, "--host", "127.0.0.1", "--port", str(port),
                                                  "--num_workers", "1"], stdout=out, stderr=out)
        wait_port(port, 120)
        return Proxy("litellm", child.pid, port)
