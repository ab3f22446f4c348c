"""The commands, as people and scripts use them: output, `--json`, `--help`, exit codes 0, 1 and 2."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest

from budlib import BUD, MODEL, MODEL_FILE, ROOT, STORIES, bud, need_file

LILY = (", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red "
        "ball. She wanted to play with it, but it was too high.\nLily's mom said")
COMMANDS = ["run", "chat", "serve", "server", "ls", "show", "quantize", "tokenize", "template", "bench", "load", "doctor",
            "completion", "version"]


def ok(*words, **kwargs):
    run = bud(*words, **kwargs)
    assert run.returncode == 0, run.stderr
    return run.stdout


def failed(*words, code=1, **kwargs):
    """What it says: one line that begins with the command's name, and nothing on standard output."""
    run = bud(*words, **kwargs)
    assert run.returncode == code, (run.returncode, run.stdout[-500:], run.stderr[-500:])
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert lines and lines[0].startswith("bud"), run.stderr
    assert code == 2 or len(lines) == 1, run.stderr
    return run.stderr


# ---- run ----


def test_run_says_what_the_peers_say():
    need_file(STORIES)
    run = bud("run", STORIES, "Once upon a time", "--temp", "0", "-n", "64")
    assert run.returncode == 0 and run.stderr == ""
    assert run.stdout.startswith(LILY) and run.stdout.endswith("\n")


def test_run_on_every_backend():
    need_file(STORIES)
    ref = ok("run", STORIES, "Once upon a time", "--temp", "0", "-n", "40", "--backend", "ref")
    for threads in ("1", "2"):
        assert ok("run", STORIES, "Once upon a time", "--temp", "0", "-n", "40", "-t", threads) == ref


def test_run_by_name_and_by_file():
    ask = "Write a story about a cat who finds a key."
    by_name = ok("run", MODEL, ask, "--temp", "0", "-n", "12")
    assert by_name == ok("run", MODEL_FILE, ask, "--temp", "0", "-n", "12")
    assert len(by_name.split()) > 3 and "<|" not in by_name


def test_run_raw_is_plain_continuation():
    text = "Once upon a time"
    raw = ok("run", MODEL, text, "--raw", "--temp", "0", "-n", "12")
    assert raw != ok("run", MODEL, text, "--temp", "0", "-n", "12")


def test_run_reads_standard_input():
    by_word = ok("run", MODEL, "Hello there", "--temp", "0", "-n", "8")
    assert ok("run", MODEL, "--temp", "0", "-n", "8", text="Hello there\n") == by_word


def test_run_seed_stop_and_system():
    def run(*more):
        return ok("run", MODEL, "Write a story about a dog.", "-n", "24", *more)
    assert run("--seed", "1") == run("--seed", "1")
    assert len({run("--seed", str(i), "--temp", "1.5") for i in range(3)}) > 1
    greedy = run("--temp", "0").strip()
    stop = greedy[10:14]
    assert run("--temp", "0", "--stop", stop).strip() == greedy[:greedy.find(stop)].strip()
    assert ok("run", MODEL, "Hello", "--system", "You are a dog.", "--temp", "0", "-n", "4")


def test_run_refuses_what_cannot_be():
    assert "empty" in failed("run", MODEL, "")
    assert "context" in failed("run", MODEL, "cat " * 3000)
    assert "context" in failed("run", MODEL, "Hello", "-n", "100000")
    assert "--temp" in failed("run", MODEL, "x", "--temp", "hot")
    assert "--n-predict" in failed("run", MODEL, "x", "-n", "0")
    assert "nope" in failed("run", "nope", "x")
    assert "backend" in failed("run", MODEL, "x", "--backend", "abacus")


def test_run_into_a_closed_pipe():
    run = subprocess.run(["bash", "-o", "pipefail", "-c", f'"{BUD}" run {MODEL} Hello -n 200 --raw | head -c 1'],
                         capture_output=True, timeout=60)
    assert b"crash" not in run.stderr and b"assertion" not in run.stderr
    full = subprocess.run(["bash", "-c", f'"{BUD}" version > /dev/full'], capture_output=True, timeout=20)
    assert full.returncode == 1 and b"standard output" in full.stderr


# ---- looking at models ----


def test_show():
    text = ok("show", MODEL_FILE)
    assert 'general.architecture = "llama"' in text and "KV cache" in text
    assert len(ok("show", MODEL_FILE, "--tensors").splitlines()) > len(text.splitlines()) + 20
    d = json.loads(ok("show", MODEL_FILE, "--json"))
    assert d["metadata"]["general.architecture"] == "llama"
    names = [t["name"] for t in d["tensors"]]
    assert "token_embd.weight" in names and len(names) == len(set(names))
    memory = d["memory"]
    assert sum(t["bytes"] for t in d["tensors"]) == memory["weight_bytes"] < os.path.getsize(MODEL_FILE)
    assert memory["kv_bytes"] == memory["kv_bytes_per_token"] * memory["context_tokens"]
    assert "workspace" in text and 1 << 20 < memory["workspace_bytes"] < 64 << 20
    small = json.loads(ok("show", MODEL_FILE, "--json", "--ctx", "128"))["memory"]
    assert small["kv_bytes"] == 128 * memory["kv_bytes_per_token"]


def test_ls(tmp_path):
    assert any(line.startswith(MODEL + "\t") for line in ok("ls").splitlines())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.gguf").symlink_to(MODEL_FILE)
    (tmp_path / "models" / "bad.gguf").write_bytes(b"no model")
    rows = {r["id"]: r for r in json.loads(ok("ls", "--json", home=str(tmp_path)))}
    assert rows["mine"]["architecture"] == "llama" and rows["mine"]["bytes"] == os.path.getsize(MODEL_FILE)
    assert "error" in rows["bad"] and MODEL in rows
    assert ok("run", "mine", "Hello", "-n", "2", home=str(tmp_path))


def test_tokenize():
    text = "Hello  wörld, 🐈!"
    tokens = json.loads(ok("tokenize", MODEL, text, "--json"))
    assert all(isinstance(t["id"], int) for t in tokens)
    lines = ok("tokenize", MODEL, text).splitlines()
    assert [int(line.split()[0]) for line in lines] == [t["id"] for t in tokens]
    words = json.loads(ok("tokenize", MODEL, "the dog", "--json"))
    assert "".join(t["piece"] for t in words).strip() == "the dog"


def test_tokenize_special():
    one = json.loads(ok("tokenize", MODEL, "<|im_end|>", "--json"))
    many = json.loads(ok("tokenize", MODEL, "<|im_end|>", "--json", "--no-special"))
    assert [t["piece"] for t in one][-1] == "<|im_end|>" and len(many) > len(one)


def test_template(tmp_path):
    talk = tmp_path / "talk.json"
    talk.write_text(json.dumps([{"role": "user", "content": "Hi é 🐈"}]))
    text = ok("template", MODEL, str(talk))
    assert "Hi é 🐈" in text and text.endswith("assistant\n")
    assert not ok("template", MODEL, str(talk), "--no-generation-prompt").endswith("assistant\n")
    jinja = tmp_path / "t.jinja"
    jinja.write_text("{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}{{ depth }}")
    talk.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"depth": 3}}))
    assert ok("template", str(jinja), str(talk), "--bos", "<b>") == "<b>[user] x3"


def test_template_refuses(tmp_path):
    talk, jinja = tmp_path / "talk.json", tmp_path / "t.jinja"
    talk.write_text("[{]")
    assert "talk.json" in failed("template", MODEL, str(talk)) and "column" in failed("template", MODEL, str(talk))
    talk.write_text('{"a": 1}')
    assert "messages" in failed("template", MODEL, str(talk))
    talk.write_text("[]")
    jinja.write_text("{% for %}")
    failed("template", str(jinja), str(talk))
    jinja.write_text("{{ raise_exception('not for you') }}")
    assert "not for you" in failed("template", str(jinja), str(talk))
    jinja.write_text("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}")
    failed("template", str(jinja), str(talk), timeout=30)
    assert "absent.json" in failed("template", MODEL, str(tmp_path / "absent.json"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small F32 model with random weights."""
    path = str(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make_model.py"), "tiny-llama", "F32", "-o", path],
                   check=True, capture_output=True, timeout=60)
    return path


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_quantize(tiny, tmp_path, name):
    out = tmp_path / "q.gguf"
    result = json.loads(ok("quantize", tiny, str(out), name, "--json"))
    assert result["quantized"] > 0 and out.stat().st_size < os.path.getsize(tiny) / 3
    assert name in {t["type"] for t in json.loads(ok("show", str(out), "--json"))["tensors"]}
    ok("run", str(out), "x", "--raw", "-n", "3")


def test_quantize_never_writes_its_input(tiny, tmp_path):
    model, link = tmp_path / "m.gguf", tmp_path / "l.gguf"
    shutil.copy(tiny, model)
    link.symlink_to(model)
    before = model.read_bytes()
    for out in (model, link):
        failed("quantize", str(model), str(out), "Q8_0")
        assert model.read_bytes() == before


def test_quantize_refuses(tiny, tmp_path):
    out = str(tmp_path / "q.gguf")
    assert "Q8_0" in failed("quantize", MODEL_FILE, out, "Q9_9"), "an unknown type lists the known ones"
    assert "already" in failed("quantize", MODEL_FILE, out, "Q4_0")
    failed("quantize", tiny, str(tmp_path / "absent" / "q.gguf"), "Q8_0")
    assert os.listdir(tmp_path) == [], "a failure leaves nothing behind"


# ---- the program itself ----


def test_version():
    with open(os.path.join(ROOT, "VERSION"), encoding="utf-8") as f:
        version = f.read().strip()
    assert ok("version") == ok("--version") == f"bud {version}\n"
    assert json.loads(ok("version", "--json")) == {"version": version}


def test_doctor():
    d = json.loads(ok("doctor", "--json"))
    assert d["cores"] >= 1 and d["memory_bytes"] > 0 and d["backend"] in ("ref", "cpu")
    assert d["backend"] in ok("doctor")


def test_completion():
    for shell in ("bash", "zsh"):
        script = ok("completion", shell)
        assert all(c in script for c in COMMANDS)
    def complete(*words):
        line = " ".join(f"'{w}'" for w in words)
        code = f'source <("{BUD}" completion bash); COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _bud; ' \
               'printf "%s\\n" "${COMPREPLY[@]}"'
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=20).stdout.split()
    assert complete("bud", "tok") == ["tokenize"]
    assert "--admin-listen" in complete("bud", "serve", "--adm")
    assert "fish" in failed("completion", "fish")


def listed():
    return re.findall(r"^  ([a-z]+) +\S", ok("help").split("commands:")[1], re.M)


def test_help_lists_every_command():
    assert set(COMMANDS) <= set(listed())
    assert ok("help") == ok("--help") == ok("-h")
    run = bud()
    assert run.returncode == 2 and "usage: bud" in run.stderr and run.stdout == ""


def test_help_of_every_command():
    for name in listed():
        text = ok(name, "--help")
        assert text.startswith(f"usage: bud {name}") and text == ok("help", name) == ok(name, "-h")
        assert all(len(line) <= 100 for line in text.splitlines()), name
    assert "unknown command 'wizard'" in failed("help", "wizard", code=2)


def test_slips_of_the_finger():
    assert "did you mean tokenize?" in failed("tokenise", "x", code=2)
    assert "did you mean serve?" in failed("serv", code=2)
    assert "did you mean" not in failed("qqqqqqqq", code=2)
    assert "did you mean --temp?" in failed("run", MODEL, "x", "--tmp", "0", code=2)
    assert "did you mean --admin-listen?" in failed("serve", "--admin-lissen", "x", code=2)


def test_usage_errors_exit_2():
    failed("run", code=2)
    failed("run", MODEL, "a", "b", code=2)
    failed("show", code=2)
    failed("version", "extra", code=2)
    failed("run", MODEL, "x", "-n", code=2)
    failed("version", "--json=yes", code=2)


# ---- hostile files ----


def gguf(n_tensors=0, n_kv=0, body=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_kv) + body


def kv_string(key, value):
    return struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value


HOSTILE = {
    "empty": b"",
    "short": b"GGU",
    "other": b"PK\x03\x04" + b"\0" * 100,
    "version 9": gguf(version=9),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 1, 1),
    "many tensors": gguf(n_tensors=1 << 62),
    "many keys": gguf(n_kv=(1 << 64) - 1),
    "long key": gguf(n_kv=1, body=struct.pack("<Q", 1 << 60)),
    "unknown kind": gguf(n_kv=1, body=struct.pack("<Q", 1) + b"a" + struct.pack("<I", 99)),
    "array of arrays": gguf(n_kv=1, body=struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 1 << 40)),
    "long array": gguf(n_kv=1, body=struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 6, 1 << 61)),
    "huge tensor": gguf(n_tensors=1, body=struct.pack("<Q", 1) + b"t" + struct.pack("<I4QIQ", 4, *[1 << 32] * 4, 0, 0)),
    "tensor outside": gguf(n_tensors=1, body=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 32, 0, 1 << 50)),
    "tensor of no type": gguf(n_tensors=1, body=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 32, 77, 0)),
    "no architecture": gguf(n_kv=1, body=kv_string(b"general.name", b"x")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[name])
    said = failed("run", str(path), "x", timeout=20)
    assert "hostile.gguf" in said
    if name != "no architecture":
        assert "hostile.gguf" in failed("show", str(path), timeout=20)


def test_truncated_anywhere(tmp_path):
    with open(MODEL_FILE, "rb") as f:
        data = f.read()
    path = tmp_path / "cut.gguf"
    for i in range(24):
        path.write_bytes(data[:len(data) * i // 24])
        assert "cut.gguf" in failed("run", str(path), "x", timeout=20)


def test_flipped_bytes_never_crash(tmp_path):
    """Metadata with one byte changed: answered or refused with one line, never a signal."""
    with open(MODEL_FILE, "rb") as f:
        data = f.read()
    path = tmp_path / "flip.gguf"
    for at in range(4, 1200, 97):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x81]) + data[at + 1:])
        run = bud("run", str(path), "Hello", "-n", "1", "--temp", "0", timeout=30)
        assert run.returncode in (0, 1), (at, run.returncode, run.stderr[-500:])
        assert run.returncode == 0 or run.stderr.count("\n") == 1, (at, run.stderr)


def test_unknown_architecture_lists_the_known(tmp_path):
    path = tmp_path / "odd.gguf"
    with open(MODEL_FILE, "rb") as f:
        data = f.read()
    path.write_bytes(data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemur", 1))
    said = failed("run", str(path), "x")
    assert "lemur" in said and all(a in said for a in ("llama", "qwen2", "gemma3", "phi3", "gpt-oss")), said


def test_files_that_are_no_files(tmp_path):
    assert str(tmp_path) in failed("show", str(tmp_path))
    failed("show", "/dev/null")


def test_a_fifo_is_no_model(tmp_path):
    fifo = tmp_path / "fifo.gguf"
    os.mkfifo(fifo)
    failed("show", str(fifo), timeout=3)
