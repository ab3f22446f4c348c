"""`bud chat` on a terminal of its own."""
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from budlib import BUD, MODEL, SLOW, STORIES, bud, need_file


def own_terminal():
    """The child's controlling terminal is the pty, so that Ctrl-C is a signal to it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    def __init__(self, *words):
        self.fd, side = pty.openpty()
        self.process = subprocess.Popen([BUD, "chat", *words], stdin=side, stdout=side, stderr=side,
                                        start_new_session=True, close_fds=True,
                                        preexec_fn=own_terminal)
        os.close(side)
        self.seen = ""

    def read(self, until, timeout_s=20):
        """Everything up to a match of `until`."""
        end, text = time.monotonic() + timeout_s, ""
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    piece = os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    piece = ""
                if not piece:
                    break
                text += piece
                self.seen += piece
                if re.search(until, text):
                    return text
        raise AssertionError(f"no {until!r} in {text!r}")

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def say(self, text):
        """One turn; the answer without the echo of what was typed."""
        self.type(text + "\n")
        return self.read(r"\r\n> $").split("\r\n", 1)[1]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def terminal():
    opened = []

    def make(*words):
        opened.append(Terminal(*words))
        return opened[-1]
    yield make
    for t in opened:
        t.close()


def test_conversation(terminal):
    t = terminal(MODEL, "--temp", "0", "-n", "12")
    t.read(r"> $")
    for _ in range(2):
        assert len(t.say("Write a story about a dog.").split()) > 3
    t.type("\x04")
    assert t.process.wait(10) == 0


def test_the_history_goes_along():
    """Every turn asks with all that was said before: a small context is full after a few."""
    run = bud("chat", MODEL, "-c", "64", "-n", "8", text="Hello there\n")
    assert run.returncode == 0, run.stderr
    run = bud("chat", MODEL, "-c", "64", "-n", "8", text="Hello there\n" * 8)
    assert run.returncode == 1 and "context" in run.stderr and run.stdout.strip()


def test_same_as_run(terminal):
    t = terminal(MODEL, "--temp", "0", "-n", "12")
    t.read(r"> $")
    answer = t.say("Hello there").replace("\r\n", "\n").removesuffix("> ").strip()
    assert answer == bud("run", MODEL, "Hello there", "--temp", "0", "-n", "12").stdout.strip()


def test_ctrl_c_stops_the_answer_only(terminal):
    t = terminal(MODEL, "--temp", "0", *SLOW)
    t.read(r"> $")
    t.type("Write a story about a cat who finds a key.\n")
    t.read(r"key\.\r\n(\w+\W+){5}")
    t.type("\x03")
    t.read(r"\(stopped\)(.|\n)*> $")
    assert t.say("Hello").strip("> \r\n"), "the conversation goes on"
    t.type("\x04")
    assert t.process.wait(10) == 0


def test_ctrl_c_at_the_prompt_ends_it(terminal):
    t = terminal(MODEL)
    t.read(r"> $")
    t.type("\x03")
    assert t.process.wait(10) in (0, 1, 130, -signal.SIGINT)


def test_from_a_pipe():
    run = bud("chat", MODEL, "--temp", "0", "-n", "8", text="Hello\nHello\n")
    assert run.returncode == 0 and "> " not in run.stdout
    assert len(run.stdout.split()) > 4


def test_a_model_without_a_template():
    need_file(STORIES)
    run = bud("chat", STORIES, text="Hello\n")
    assert run.returncode == 1 and "bud run --raw" in run.stderr
