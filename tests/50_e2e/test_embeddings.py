"""Embeddings and reranking through `bud serve`: the official `openai` package, and what clients of
/v1/rerank send. The models are the tiny random ones of tests/golden."""
import base64
import concurrent.futures
import json
import math
import os
import struct

import numpy
import openai
import pytest

from budlib import MODEL, MODEL_FILE, ROOT, Serve, bud, eventually

GOLDEN = os.path.join(ROOT, "tests", "golden", "models")
EMBEDDERS = ["bert", "nomic-bert", "xlm-roberta", "qwen3-embed"]
RERANKERS = ["bert-rank", "xlm-roberta-rank", "qwen3-rank"]
TEXTS = ["word1 word2", "a b c", "hello?", "x"]


@pytest.fixture(scope="module")
def served():
    words = ["--model", MODEL_FILE]
    for name in EMBEDDERS + RERANKERS:
        words += ["--model", f"{name}={GOLDEN}/{name}.gguf"]
    with Serve(*words, "--ctx", "256") as s:
        yield s


def embed(client, texts, model="bert", **kwargs):
    return client.embeddings.create(model=model, input=texts, **kwargs)


def post(served, path, body):
    reply = served.request("POST", path, json.dumps(body), ["content-type: application/json"])
    return reply.status, json.loads(reply.body)


def refused(served, path, body, param, words, status=400):
    got, reply = post(served, path, body)
    assert got == status and words in reply["error"]["message"], reply
    assert reply["error"]["param"] == param and reply["error"]["type"], reply


# ---- embeddings ----


@pytest.mark.parametrize("model", EMBEDDERS)
def test_vectors_by_the_sdk(client, model):
    """The SDK asks for base64 unless told otherwise, and decodes it with numpy."""
    reply = embed(client, TEXTS, model)
    assert reply.object == "list" and reply.model == model
    assert [d.index for d in reply.data] == [0, 1, 2, 3]
    assert reply.usage.prompt_tokens == reply.usage.total_tokens > len(TEXTS)
    for row in reply.data:
        assert row.object == "embedding" and len(row.embedding) == 32
        assert math.isclose(math.sqrt(sum(x * x for x in row.embedding)), 1, rel_tol=1e-5)
    plain = embed(client, TEXTS, model, encoding_format="float")
    numpy.testing.assert_array_equal(numpy.array([d.embedding for d in plain.data], numpy.float32),
                                     numpy.array([d.embedding for d in reply.data], numpy.float32))
    alone = embed(client, TEXTS[2], model)
    assert alone.data[0].embedding == reply.data[2].embedding


def test_base64_is_little_endian_floats(served):
    status, reply = post(served, "/v1/embeddings", {"model": "bert", "input": "a", "encoding_format": "base64"})
    assert status == 200
    floats = struct.unpack("<32f", base64.b64decode(reply["data"][0]["embedding"]))
    _, plain = post(served, "/v1/embeddings", {"model": "bert", "input": "a"})
    assert [numpy.float32(x) for x in plain["data"][0]["embedding"]] == [numpy.float32(x) for x in floats]


def test_dimensions(client):
    whole = embed(client, "a b c", encoding_format="float").data[0].embedding
    short = embed(client, "a b c", encoding_format="float", dimensions=8).data[0].embedding
    norm = math.sqrt(sum(x * x for x in whole[:8]))
    assert short == pytest.approx([x / norm for x in whole[:8]], abs=1e-6)


def test_token_ids_and_texts_are_one(client):
    run = bud("tokenize", f"{GOLDEN}/bert.gguf", "a b c", "--json")
    ids = [t["id"] for t in json.loads(run.stdout)]
    text = embed(client, "a b c").data[0].embedding
    assert embed(client, ids).data[0].embedding == text
    both = embed(client, [ids, ids[:2]])
    assert both.data[0].embedding == text and both.data[1].embedding != text
    assert both.usage.prompt_tokens == len(ids) + 2


def test_long_texts(client, served):
    long_text = "a b c " * 40
    refused(served, "/v1/embeddings", {"model": "bert", "input": ["a", long_text]}, "input[1]",
            "maximum context length is 48 tokens")
    cut = embed(client, ["a b c " * 40, "a b c " * 60], extra_body={"truncate_prompt_tokens": -1})
    assert cut.usage.prompt_tokens == 96 and cut.data[0].embedding == cut.data[1].embedding
    assert embed(client, long_text, extra_body={"truncate_prompt_tokens": 10}).usage.prompt_tokens == 10


@pytest.mark.parametrize("body, param, words", [
    ({"input": "a", "model": MODEL}, "model", "writes text"),
    ({"input": "a", "model": "bert-rank"}, "model", "/v1/rerank"),
    ({"input": "", "model": "bert"}, "input", "empty"),
    ({"input": ["a", ""], "model": "bert"}, "input[1]", "empty"),
    ({"input": [], "model": "bert"}, "input", "must not be empty"),
    ({"input": [[1, 2], [96]], "model": "bert"}, "input[1]", "not in the vocabulary"),
    ({"input": "a", "model": "bert", "dimensions": 33}, "dimensions", "have 32"),
    ({"input": "a", "model": "bert", "encoding_format": "hex"}, "encoding_format", "base64"),
    ({"input": "a", "model": "bert", "size": 4}, "size", "size"),
])
def test_refusals(served, body, param, words):
    refused(served, "/v1/embeddings", body, param, words)


def test_a_generator_is_asked_otherwise(client):
    with pytest.raises(openai.BadRequestError, match="makes embeddings"):
        client.chat.completions.create(model="bert", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.BadRequestError, match="ranks documents"):
        client.completions.create(model="bert-rank", prompt="Hi")
    with pytest.raises(openai.NotFoundError):
        embed(client, "a", "no-such-model")


def test_many_clients_beside_a_generator(client):
    """Batches mix the texts of many requests; each answer is the same as alone."""
    alone = {text: embed(client, text).data[0].embedding for text in TEXTS}

    def ask(i):
        texts = [TEXTS[(i + k) % len(TEXTS)] for k in range(1 + i % 7)]
        return all(d.embedding == alone[t] for t, d in zip(texts, embed(client, texts).data, strict=True))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        chat = pool.submit(client.completions.create, model=MODEL, prompt="Once", max_tokens=100)
        assert all(pool.map(ask, range(100)))
        assert chat.result().usage.completion_tokens > 0


def test_a_full_request(client):
    reply = embed(client, ["a b c"] * 2048)
    assert len(reply.data) == 2048 and len({tuple(d.embedding) for d in reply.data}) == 1
    with pytest.raises(openai.BadRequestError, match="at most 2048"):
        embed(client, ["a"] * 2049)


def test_hang_ups_lose_nothing(served, client):
    body = json.dumps({"model": "bert", "input": ["a b c"] * 2048})
    for _ in range(8):
        with served.raw() as raw:
            raw.request("POST", "/v1/embeddings", body,
                        [f"Authorization: Bearer {served.key}", "content-type: application/json"])
    assert len(embed(client, TEXTS).data) == 4


# ---- rerank ----

DOCUMENTS = ["word3", {"text": "a b c"}, "hello?", ""]


@pytest.mark.parametrize("model", RERANKERS)
def test_rerank(served, model):
    body = {"model": model, "query": "word1", "documents": DOCUMENTS}
    status, reply = post(served, "/v1/rerank", body)
    assert status == 200 and reply["model"] == model and reply["id"].startswith("rerank-"), reply
    scores = [r["relevance_score"] for r in reply["results"]]
    assert scores == sorted(scores, reverse=True) and all(0 <= s <= 1 for s in scores)
    assert sorted(r["index"] for r in reply["results"]) == [0, 1, 2, 3]
    assert all("document" not in r for r in reply["results"]) and reply["usage"]["total_tokens"] > 8
    _, top = post(served, "/v1/rerank", {**body, "top_n": 2, "return_documents": True})
    assert [r["index"] for r in top["results"]] == [r["index"] for r in reply["results"][:2]]
    texts = [d if isinstance(d, str) else d["text"] for d in DOCUMENTS]
    assert [r["document"]["text"] for r in top["results"]] == [texts[r["index"]] for r in top["results"]]


def test_rerank_cuts_documents_not_queries(served):
    body = {"model": "bert-rank", "query": "a b", "documents": ["c " * 100, "c " * 200]}
    status, reply = post(served, "/v1/rerank", body)
    assert status == 200 and reply["usage"]["total_tokens"] == 96
    assert reply["results"][0]["relevance_score"] == reply["results"][1]["relevance_score"]
    _, short = post(served, "/v1/rerank", {**body, "max_tokens_per_doc": 5})
    assert short["usage"]["total_tokens"] == 2 * (5 + 2 + 3)
    refused(served, "/v1/rerank", {**body, "query": "a " * 60}, "query", "the query alone has 60")


def test_rerank_by_pairs_of_xlm_roberta(served):
    """<s> query </s></s> document </s>."""
    body = {"model": "xlm-roberta-rank", "query": "free", "documents": ["the dog", "Everyone"]}
    status, reply = post(served, "/v1/rerank", body)
    assert status == 200, reply
    n = {text: len(json.loads(bud("tokenize", f"{GOLDEN}/xlm-roberta-rank.gguf", text, "--json", "--no-special").stdout))
         for text in ("free", "the dog", "Everyone")}
    assert reply["usage"]["total_tokens"] == 2 * (n["free"] + 4) + n["the dog"] + n["Everyone"]


def test_rerank_by_the_models_template(served):
    def n_tokens(text):
        run = bud("tokenize", f"{GOLDEN}/qwen3-rank.gguf", text, "--json", "--no-special")
        return len(json.loads(run.stdout))

    # The special token between the two is one token.
    n_filled = n_tokens("Query: a{document}b\nDocument: c d") + 1 + n_tokens("\n")
    body = {"model": "qwen3-rank", "query": "a{document}b", "documents": ["c d"]}
    refused(served, "/v1/rerank", {**body, "query": "a " * 300}, "query", "the query alone has")
    status, reply = post(served, "/v1/rerank", body)
    assert status == 200 and reply["usage"]["total_tokens"] == n_filled
    _, cut = post(served, "/v1/rerank", {**body, "query": "a b", "documents": ["c d " * 300]})
    assert 200 < cut["usage"]["total_tokens"] <= 256


@pytest.mark.parametrize("body, param, words", [
    ({"query": "q", "documents": ["d"], "model": "bert"}, "model", "/v1/embeddings"),
    ({"query": "q", "documents": ["d"], "model": MODEL}, "model", "writes text"),
    ({"query": "q", "documents": [], "model": "bert-rank"}, "documents", "0 entries"),
    ({"query": "q", "documents": ["d", 1], "model": "bert-rank"}, "documents[1]", "string"),
    ({"documents": ["d"], "model": "bert-rank"}, "query", "query"),
])
def test_rerank_refusals(served, body, param, words):
    refused(served, "/v1/rerank", body, param, words)


# ---- on the command line ----


def test_bud_embed(client):
    run = bud("embed", f"{GOLDEN}/bert.gguf", "a b c", "--json")
    assert run.returncode == 0, run.stderr
    vector = json.loads(run.stdout)["data"][0]["embedding"]
    assert vector == pytest.approx(embed(client, "a b c", encoding_format="float").data[0].embedding, abs=1e-6)
    lines = bud("embed", f"{GOLDEN}/bert.gguf", "a b c").stdout.split()
    assert [float(x) for x in lines] == pytest.approx(vector, abs=1e-6)
    near = bud("embed", f"{GOLDEN}/bert.gguf", "a b c", "a b c", "hello?").stdout.splitlines()
    assert near[0].split() == ["1.0000", "a", "b", "c"] and float(near[1].split()[0]) < 1


def test_bud_embed_ranks(served):
    run = bud("embed", f"{GOLDEN}/bert-rank.gguf", "word1", "word3", "a b c", "hello?", "--json")
    _, reply = post(served, "/v1/rerank", {"model": "bert-rank", "query": "word1",
                                           "documents": ["word3", "a b c", "hello?"]})
    assert json.loads(run.stdout)["results"] == reply["results"]


@pytest.mark.parametrize("words, says", [
    (("embed", MODEL_FILE, "a"), "writes text: use bud run"),
    (("embed", f"{GOLDEN}/bert-rank.gguf", "a"), "a query and documents"),
    (("embed", f"{GOLDEN}/bert.gguf", "a " * 50), "maximum context length"),
    (("run", f"{GOLDEN}/bert.gguf", "a"), "use bud embed"),
    (("bench", f"{GOLDEN}/bert.gguf"), "bud load"),
])
def test_the_wrong_command_says_so(words, says):
    run = bud(*words)
    assert run.returncode == 1 and says in run.stderr


def test_show_tells_what_a_model_is():
    assert "makes embeddings" in bud("show", f"{GOLDEN}/nomic-bert.gguf").stdout
    assert "ranks documents" in bud("show", f"{GOLDEN}/qwen3-rank.gguf").stdout


def test_models_are_listed(client, served):
    assert sorted(m.id for m in client.models.list()) == sorted([MODEL, *EMBEDDERS, *RERANKERS])
    with served.raw() as raw:
        raw.request("GET", "/v1/models/bert", None, [f"Authorization: Bearer {served.key}"])
        assert json.loads(raw.response("GET").body)["max_model_len"] == 48


def test_usage_is_counted(served, client):
    before = embed(client, TEXTS)
    event = eventually(lambda: [e for e in served.events("access") if e["http.request.id"] == before._request_id])[0]
    assert before.usage.prompt_tokens in event.values(), event


# ---- the link's limits ----


def test_deadlines_and_budgets_hold_for_texts_too(served):
    for path, body in (("/v1/embeddings", {"model": "bert", "input": TEXTS}),
                       ("/v1/rerank", {"model": "bert-rank", "query": "a b", "documents": TEXTS})):
        reply = served.link("POST", path, body, ["bud-deadline-ms: 0"])
        assert reply.status == 504 and reply.error()["code"] == "timeout"
        reply = served.link("POST", path, body, ["bud-budget-tokens: 5"])
        assert reply.status == 400 and reply.error()["code"] == "context_length_exceeded"
        reply = served.link("POST", path, body, ["bud-budget-tokens: x"])
        assert reply.status == 400 and reply.error()["param"] == "bud-budget-tokens"
        reply = served.link("POST", path, body, ["bud-deadline-ms: 60000", "bud-budget-tokens: 1000"])
        assert reply.status == 200
    text = served.link("GET", "/metrics").body.decode()
    for name in ("batches", "texts", "tokens"):
        assert f'bud_embed_{name}_total{{model="bert"}}' in text and f'bud_embed_{name}_total{{model="bert-rank"}}' in text
