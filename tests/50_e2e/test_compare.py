"""The benches against a peer, without one: what they refuse, how they tell results, how they count KL."""
import json
import math
import os
import struct
import subprocess
import sys
import xml.dom.minidom

import pytest

from budlib import BUD, MODEL_FILE, ROOT

BENCH = os.path.join(ROOT, "bench")
sys.path.insert(0, BENCH)
import report  # noqa: E402
import rows as bench_rows  # noqa: E402


def script(name, *words):
    return subprocess.run([sys.executable, os.path.join(BENCH, name), *words], capture_output=True, text=True, timeout=60)


def test_list_names_every_row():
    r = script("compare", "--list")
    assert r.returncode == 0
    assert [line.split()[0] for line in r.stdout.splitlines()] == [row.name for row in bench_rows.ROWS]


def peer_folder(path, build_type="Release", native="ON", tool=None):
    path.mkdir()
    (path / "CMakeCache.txt").write_text(f"CMAKE_BUILD_TYPE:STRING={build_type}\nGGML_NATIVE:BOOL={native}\n")
    if tool:
        (path / "bin").mkdir()
        (path / "bin" / "llama-bench").write_text(f"#!/bin/sh\n{tool}\n")
        (path / "bin" / "llama-bench").chmod(0o755)
    return str(path)


def test_compare_refuses(tmp_path):
    def said(*words, code):
        r = script("compare", *words, "--bud", BUD, "--out", str(tmp_path / "out"))
        assert r.returncode == code and r.stdout == "", r.stderr
        return r.stderr
    assert "PEER_DIR" in said(code=2)
    assert "no row 'nonsense'" in said("x", "--only", "nonsense", code=2)
    assert "at least 1" in said("x", "--rounds", "0", code=2)
    assert "CMakeCache.txt is absent" in said(str(tmp_path), code=1)
    assert "native Release" in said(peer_folder(tmp_path / "a", build_type="Debug"), code=1)
    assert "native Release" in said(peer_folder(tmp_path / "b", native="OFF"), code=1)
    assert "llama-bench" in said(peer_folder(tmp_path / "c"), code=1)


def test_compare_measures_a_peer_that_is_told_what_to_say(tmp_path):
    """A peer of shell script, and a small model under the names of large ones."""
    tool = 'case "$1" in --version) echo "version: 7 (abc)";; *) echo \'[{"samples_ts": [1.5, 2.5]}]\';; esac'
    peer = peer_folder(tmp_path / "peer", tool=tool)
    models, out = tmp_path / "models", tmp_path / "out"
    models.mkdir()
    for name in ("llama-1b", "qwen-0.5b"):
        (models / f"{name}-Q4_0.gguf").symlink_to(MODEL_FILE)
    words = [peer, "--bud", BUD, "--models", str(models), "--out", str(out), "--threads", "1", "--rounds", "2",
             "--others", "1"]
    r = script("compare", *words, "--only", "decode-q4_0")
    assert r.returncode == 0, r.stderr
    d = json.loads((out / "results.json").read_text())
    rounds = d["rows"]["decode-q4_0"]
    assert d["peer"]["version"] == "7 (abc)" and d["threads"] == 1 and len(rounds) == 2
    assert all(r["peer"] == 2.5 and r["ours"] > 0 and len(r["stream_gb_per_s"]) == 2 for r in rounds)
    assert "decode, 1 stream, Llama-1B Q4_0" in r.stdout and r.stdout.strip() == (out / "table.md").read_text().strip()
    # A later call joins its rows; a tool that the peer lacks fails its row alone.
    r = script("compare", *words, "--only", "prefill-q4_0,batch-qwen")
    assert r.returncode == 1 and "not measured" in r.stderr
    d = json.loads((out / "results.json").read_text())
    assert {name for name, found in d["rows"].items() if found} == {"decode-q4_0", "prefill-q4_0"}


def test_compare_goes_on_where_it_was(tmp_path):
    """A side a call, until there are as many rounds as wanted; then nothing is left to do."""
    tool = 'case "$1" in --version) echo "version: 7 (abc)";; *) echo \'[{"samples_ts": [1.5, 2.5]}]\';; esac'
    peer = peer_folder(tmp_path / "peer", tool=tool)
    (tmp_path / "llama-1b-Q4_0.gguf").symlink_to(MODEL_FILE)
    words = [peer, "--bud", BUD, "--models", str(tmp_path), "--out", str(tmp_path / "out"), "--threads", "1",
             "--rounds", "1", "--others", "1", "--split", "--only", "decode-q4_0"]
    for n_rounds, said in ((0, "ours "), (1, "peer 2.5"), (1, "")):
        r = script("compare", *words)
        assert r.returncode == 0 and said in r.stderr, r.stderr
        d = json.loads((tmp_path / "out" / "results.json").read_text())
        assert len(d["rows"]["decode-q4_0"]) == n_rounds
    assert "ours " not in r.stderr and "peer 2.5" not in r.stderr


def rounds_of(ours, peer, **notes):
    return [{"commit": "c0ffee", "ours": o, "peer": p, "stream_gb_per_s": [50.0], "notes": {"ours": notes, "peer": notes},
             "seconds": 1, "others": 0, "whole_seconds": 2} for o, p in zip(ours, peer)]


def test_report():
    rows = {"decode-q8_0": rounds_of([40, 44, 42], [20, 20, 20], stream_fraction=0.9),
            "http": rounds_of([300], [150]), "http-np16": rounds_of([300], [120]),
            "arrival": rounds_of([150], [3000]), "prefill-q4_0": []}
    results = {"machine": {"processor": "P <&>", "cores": 2, "isa": ["avx2"]}, "threads": 2,
               "peer": {"version": "v<1>", "flags": {"GGML_NATIVE": "ON"}}, "rows": rows}
    lines = [line for line in report.table(results).splitlines() if line.startswith("| ") and "ratio" not in line]
    assert len(lines) == 4 and all(line.count("|") == 9 for line in lines)
    assert "2.10" in lines[0] and "2.00–2.20" in lines[0] and "90 % of the memory stream; reached" in lines[0]
    assert "**not reached**" in lines[1] and "other setting" in lines[2]
    assert "≤ 200 ms" in lines[3] and "20.00" in lines[3] and "reached" in lines[3]
    svg = xml.dom.minidom.parseString(report.picture(results))
    texts = [t.firstChild.data for t in svg.getElementsByTagName("text")]
    assert any("v<1>" in t for t in texts) and sum("HTTP clients" in t for t in texts) == 1


# ---- kld ----


@pytest.fixture(scope="module")
def kld():
    subprocess.run(["make", "-s", "-C", ROOT, "build/bench/kld"], check=True, timeout=80)

    def call(*words):
        return subprocess.run([os.path.join(ROOT, "build", "bench", "kld"), *map(str, words)], capture_output=True,
                              text=True, timeout=60)
    return call


def logprob_file(path, rows, window=4, vocab=3, tokens=None):
    """One window with rows of log-probabilities, in 16 bits as llama-perplexity writes them."""
    out = b"_logits_" + struct.pack("<3i", window, vocab, 1) + struct.pack(f"<{window}i", *(tokens or range(window)))
    for row in rows:
        low, scale = min(row), (max(row) - min(row)) / 65535
        steps = [round((x - low) / scale) if scale else 0 for x in row]
        out += struct.pack("<2f", scale, low) + struct.pack(f"<{vocab + vocab % 2}H", *steps, *[0] * (vocab % 2))
    path.write_bytes(out)
    return path


def test_kld_of_files(tmp_path, kld):
    p, q = [0.5, 0.3, 0.2], [0.25, 0.3, 0.45]
    a = logprob_file(tmp_path / "a", [[math.log(x) for x in p]])
    b = logprob_file(tmp_path / "b", [[math.log(x) for x in q]])
    same = json.loads(kld(a, a).stdout)
    assert same == {"n": 1, "mean_kld": 0, "same_top": 1, "tie_gap": 0}
    d = json.loads(kld(a, b).stdout)
    assert abs(d["mean_kld"] - sum(x * math.log(x / y) for x, y in zip(p, q))) < 1e-4
    assert d["same_top"] == 0 and abs(d["tie_gap"] - math.log(0.45 / 0.25)) < 1e-3


def test_kld_refuses(tmp_path, kld):
    a = logprob_file(tmp_path / "a", [[-1, -2, -3]])
    other = logprob_file(tmp_path / "b", [[-1, -2, -3]], tokens=[0, 1, 2, 9])
    assert kld(a).returncode == 2
    assert "same tokens" in kld(a, other).stderr
    assert "another vocabulary" in kld(a, MODEL_FILE).stderr
    data = a.read_bytes()
    for bad in (b"", b"_logits_", data[:-1], data + b"x", b"x" + data[1:], data[:8] + b"\xff" * 12 + data[20:]):
        (tmp_path / "bad").write_bytes(bad)
        r = kld(tmp_path / "bad", a)
        assert r.returncode == 1 and r.stderr.startswith("kld: "), r.stderr
    assert "absent" in kld(tmp_path / "absent", a).stderr


def test_quality_refuses(tmp_path):
    assert "no model 'x'" in script("quality", str(tmp_path), "--only", "x").stderr
    assert "no type 'Q9'" in script("quality", str(tmp_path), "--types", "Q9").stderr
