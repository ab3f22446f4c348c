"""`tools/run`, the script of `make run`: what a newcomer sees, and Ctrl-C."""
import os
import re
import signal
import subprocess

import pytest

from budlib import BUD, MODEL, ROOT, eventually


class Run:
    def __init__(self, home, listen="127.0.0.1:0"):
        self.path = os.path.join(home, "seen")
        env = dict(os.environ, BUD_HOME=os.path.join(home, "home"), BUD_BIN=BUD, BUD_LISTEN=listen,
                   BUD_ADMIN_LISTEN="127.0.0.1:0")
        env.pop("BUD_BOOTSTRAP_KEY_FILE", None)
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen([os.path.join(ROOT, "tools", "run")], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, env=env, start_new_session=True)

    def seen(self):
        with open(self.path, encoding="utf-8") as f:
            return f.read()

    def wait_serving(self):
        assert eventually(lambda: "until Ctrl-C" in self.seen() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.seen()
        return self.seen()

    def interrupt(self):
        """Ctrl-C: the signal goes to the script's whole process group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def run(tmp_path):
    started = []

    def start(**kwargs):
        started.append(Run(str(tmp_path), **kwargs))
        return started[-1]
    yield start
    for r in started:
        r.interrupt()


def key_in(text):
    return re.search(r"^  key +(sk-bud-\S{43})$", text, re.M).group(1)


def test_twice(run, tmp_path):
    first = run()
    text = first.wait_serving()
    key = key_in(text)
    assert "is ready." in text and "A first answer to" in text
    answer = text.split("A first answer to", 1)[1].split("\n\n", 1)[1]
    assert len(answer.split()) > 20, text
    kept = tmp_path / "home" / "first-key"
    assert kept.read_text().strip() == key and kept.stat().st_mode & 0o777 == 0o600
    assert key not in (tmp_path / "home" / "run.log").read_text()
    curl = text[text.index("\ncurl "):text.index("A first answer to")]
    reply = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=30)
    assert f'"model":"{MODEL}"' in reply.stdout, reply
    assert first.interrupt() == 0 and first.seen().endswith("Stopped.\n")
    second = run()
    assert key_in(second.wait_serving()) == key
    assert second.interrupt() == 0


def test_port_in_use(run, served):
    r = run(listen=f"127.0.0.1:{served.port}")
    assert r.process.wait(20) == 1
    assert str(served.port) in r.seen() and "another program holds that port" in r.seen()
