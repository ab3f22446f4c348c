"""`bud bench`: its rows, the shape of its JSON, what it refuses. Figures themselves are not judged."""
import json

import pytest

from budlib import MODEL_FILE, bud

ROW_KEYS = {"what", "streams", "depth", "tokens", "tokens_per_s", "tokens_per_s_min", "tokens_per_s_max",
            "stream_gb_per_s", "stream_fraction"}


def bench(*words):
    run = bud("bench", MODEL_FILE, *words, timeout=80)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def rows(*words):
    return json.loads(bench(*words, "--json"))["rows"]


def refused(*words, model=MODEL_FILE):
    run = bud("bench", model, *words)
    assert run.returncode == 1 and run.stdout == "", (run.returncode, run.stdout)
    assert run.stderr.startswith("bud bench: ") and run.stderr.count("\n") == 1, run.stderr
    return run.stderr


def test_json():
    d = json.loads(bench("-p", "16", "-n", "4", "-r", "2", "-t", "1", "--json"))
    assert d["architecture"] == "llama" and d["type"] == "Q8_0" and d["kv_type"] == "f16"
    assert d["threads"] == 1 and d["rounds"] == 2 and d["batch_tokens"] == 512
    assert 0 < d["weight_bytes_per_step"] <= d["weight_bytes"] and d["kv_bytes"] > 0 and d["workspace_bytes"] > 0
    assert [r["what"] for r in d["rows"]] == ["prompt", "generate"]
    for r in d["rows"]:
        assert set(r) == ROW_KEYS
        assert 0 < r["tokens_per_s_min"] <= r["tokens_per_s"] <= r["tokens_per_s_max"]
        assert r["stream_gb_per_s"] > 0
    prompt, generate = d["rows"]
    assert prompt["stream_fraction"] is None and generate["stream_fraction"] > 0


def test_a_row_for_every_combination():
    found = [(r["what"], r["streams"], r["depth"], r["tokens"])
             for r in rows("-p", "3,40", "-n", "2", "-s", "1,5", "-d", "0,33", "-b", "16", "-r", "1")]
    assert found == [(what, streams, depth, tokens) for depth in (0, 33)
                     for what, streams, tokens in (("prompt", 1, 3), ("prompt", 1, 40), ("generate", 1, 2),
                                                   ("generate", 5, 2))]


def test_prompt_or_generation_alone():
    assert [r["what"] for r in rows("-p", "0", "-n", "2", "-r", "1")] == ["generate"]
    assert [r["what"] for r in rows("-p", "8", "-n", "0", "-r", "1")] == ["prompt"]


def test_more_streams_than_the_batch():
    assert rows("-p", "0", "-n", "2", "-s", "32", "-b", "4", "-r", "1")[0]["streams"] == 32


def test_table():
    lines = bench("-p", "8", "-n", "2", "-r", "1", "--backend", "ref", "--kv-type", "f32").splitlines()
    assert "KV f32, backend ref" in lines[0] and lines[1].split()[:5] == ["what", "streams", "depth", "tokens", "tokens/s"]
    assert [line.split()[0] for line in lines[2:]] == ["prompt", "generate"]
    assert lines[3].endswith("%") and "GB/s" in lines[3] and "GB/s" not in lines[2]


@pytest.mark.parametrize("words, said", [
    (["-p", "0", "-n", "0"], "nothing to measure"),
    (["-s", "0"], "--streams 0"),
    (["-s", "1,,2"], "--streams 1,,2"),
    (["-s", "1,2,"], "--streams 1,2,"),
    (["-s", "257"], "from 1 to 256"),
    (["-d", "-1"], "--depth -1"),
    (["-p", "many"], "--prompt many"),
    (["-p", ",".join("1" * 17)], "more than 16"),
    (["-p", ",".join(["1"] * 16), "-d", "0,1,2,3"], "more than 64 rows"),
    (["-r", "0"], "--rounds 0"),
    (["-b", "5000"], "--batch 5000"),
    (["--kv-type", "Q9_9"], "known are f16, f32, bf16, q8"),
    (["--backend", "abacus"], "backend"),
    (["-d", "1000"], "the model has 1024"),
    (["-p", "1025"], "the model has 1024"),
])
def test_refuses(words, said):
    assert said in refused(*words)


def test_refuses_what_is_no_model(tmp_path):
    assert "nope" in refused(model="nope")
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF")
    assert "bad.gguf" in refused(model=str(path))
