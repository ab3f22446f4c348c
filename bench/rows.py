"""The rows of bench/compare: what is measured, on which model, against which tool of the peer.

A row is {name, title, must, unit, measure}. `measure(lab)` yields pairs of callables (ours, peer),
one pair a round, each giving a figure and notes. `better` says which way is up."""
from lab import Failed

PROMPT, GENERATE, STREAMS = 512, 48, 16
DEPTH = 8192
CLIENTS, OUT_TOKENS = 16, 64
GAP_LIMIT_MS = 200


class Row:
    def __init__(self, name, title, must, unit, measure, **more):
        self.name, self.title, self.must, self.unit, self.measure = name, title, must, unit, measure
        self.smaller_is_better = more.get("smaller_is_better", False)
        self.group = more.get("group", name)  # of rows that share it the peer's best counts
        self.limit = more.get("limit")        # of our figure itself


# ---- in one process ----


def prefill(kind):
    def measure(lab):
        model = lab.models.get("llama-1b", kind)
        # Two repetitions without the warm-up, which would be a third; the better one counts.
        return (lambda: (lab.ours.bench(model, "-p", str(PROMPT), "-n", "0")[0]["tokens_per_s"], {}),
                lambda: (lab.peer.bench(model, "-p", str(PROMPT), "-n", "0", "-r", "2", "--no-warmup")[0], {}))
    return measure


def decode(shape, kind):
    def measure(lab):
        model = lab.models.get(shape, kind)

        def ours():
            row = lab.ours.bench(model, "-p", "0", "-n", str(GENERATE))[0]
            return row["tokens_per_s"], {"stream_fraction": row["stream_fraction"]}
        return ours, lambda: (lab.peer.bench(model, "-p", "0", "-n", str(GENERATE), "-r", "2")[0], {})
    return measure


def batched(shape, kind, n_tokens):
    def measure(lab):
        model = lab.models.get(shape, kind)
        return (lambda: (lab.ours.bench(model, "-p", "0", "-n", str(n_tokens), "-s", str(STREAMS), "-d", "16")[0]
                         ["tokens_per_s"], {}),
                lambda: (lab.peer.batched(model, "-npp", "16", "-ntg", str(n_tokens), "-npl", str(STREAMS),
                                          "-c", "2048")[0], {}))
    return measure


def depth(lab):
    model = lab.models.get("llama-1b-4l", "Q4_0")
    return (lambda: (lab.ours.bench(model, "-p", "0", "-n", "32", "-d", str(DEPTH))[0]["tokens_per_s"], {}),
            # Twice as fast as with its flash attention, which is the default.
            lambda: (lab.peer.bench(model, "-p", "0", "-n", "32", "-d", str(DEPTH), "-r", "1", "-fa", "0")[0], {}))


# ---- servers ----


def pieces(lab, server, tokens):
    """How many words make about `tokens` tokens, asked of the server: the template costs some, too."""
    few, many = (lab.ours.load(server, "-n", "1", "--max-tokens", "1", "-w", str(n))["prompt_tokens"] for n in (8, 24))
    each = max((many - few) / 16, 0.1)
    return max(1, round((tokens - (few - 8 * each)) / each))


def clients(prefix_tokens, peer_words, n_requests):
    """16 clients, prompts of about 100 tokens of their own, 64 tokens out. Every round has its own prompts.
    A prefix is told in tokens: 600 words are some 800 with a vocabulary of a real model, and 2,000 with
    the made-up one of these files."""
    def measure(lab):
        model = lab.models.get("qwen-0.5b", "Q4_0")
        words = []
        rounds = [0, 0]

        def drive(get, side):
            server = get()
            if not words:
                words.append(pieces(lab, server, 100))
                words.append(pieces(lab, server, prefix_tokens) if prefix_tokens else 0)
            rounds[side] += 1
            d = lab.ours.load(server, "-c", str(CLIENTS), "-n", str(n_requests), "-w", str(words[0]), "--prefix-words",
                              str(words[1]), "--max-tokens", str(OUT_TOKENS), "--seed", str(rounds[side]))
            notes = {"ttft_p50_ms": d["ttft_ms"]["p50"], "ttft_p99_ms": d["ttft_ms"]["p99"],
                     "gap_p99_ms": d["gap_ms"]["p99"], "prompt_tokens": d["prompt_tokens"] / d["ok"],
                     "generator_cores": d["generator_cores"]}
            return d["tokens_per_s"], notes
        ours, peer = lab.served(lab.ours, model), lab.served(lab.peer, model, *peer_words)
        return lambda: drive(ours, 0), lambda: drive(peer, 1)
    return measure


def arrival(lab):
    """Eight streams decode; a prompt of 4,000 tokens arrives; the longest wait of any stream for a piece of text."""
    model = lab.models.get("qwen-0.5b", "Q4_0")
    ours = lab.served(lab.ours, model)
    peer = lab.served(lab.peer, model, "-np", "16", "--kv-unified", "-c", "16384")

    def drive(get):
        server = get()
        words = pieces(lab, server, 4000)
        # A stream that has ended is followed by another: there are always eight.
        streams = lab.background(server, "-c", "8", "--seconds", "45", "-w", "10", "--max-tokens", "150")
        lab.sleep(4)
        late = lab.ours.load(server, "-n", "1", "-w", str(words), "--max-tokens", "1", "--seed", "77")
        still = streams.poll() is None
        d = lab.collect(streams)
        if not still:
            raise Failed("the long prompt was not read before the eight streams ended")
        return d["gap_ms"]["max"], {"long_prompt_tokens": late["prompt_tokens"], "long_ttft_ms": late["ttft_ms"]["max"],
                                    "gap_p99_ms": d["gap_ms"]["p99"]}
    return lambda: drive(ours), lambda: drive(peer)


def embeddings(lab):
    """1,000 texts of 12 words, 25 in a request, eight clients."""
    model = lab.minilm
    if model is None:
        raise Failed("needs --minilm FILE.gguf (bench/README.md says where from)")
    ours = lab.served(lab.ours, model)
    peer = lab.served(lab.peer, model, "--embedding", "--pooling", "mean", "-np", "16", "-c", "8192", "-b", "2048", "-ub",
                      "2048")

    def drive(get):
        server = get()
        lab.ours.load(server, "--api", "embeddings", "-n", "1", "--inputs", "25", "-w", "12", "--seed", "2")
        d = lab.ours.load(server, "--api", "embeddings", "-c", "8", "-n", "40", "--inputs", "25", "-w", "12")
        return d["texts_per_s"], {"latency_p50_ms": d["latency_ms"]["p50"]}
    return lambda: drive(ours), lambda: drive(peer)


KINDS = [("Q4_0", 2.5, 1.4), ("Q8_0", 4.5, 1.25), ("Q4_K_M", 3.3, 1.4)]
ROWS = [Row(f"prefill-{k.lower()}", f"prompt of {PROMPT}, Llama-1B {k}", must, "tok/s", prefill(k)) for k, must, _ in KINDS]
ROWS += [Row(f"decode-{k.lower()}", f"decode, 1 stream, Llama-1B {k}", must, "tok/s", decode("llama-1b", k))
         for k, _, must in KINDS]
ROWS += [
    Row("batch-qwen", f"decode, {STREAMS} streams, Qwen-0.5B Q4_0", 2.8, "tok/s", batched("qwen-0.5b", "Q4_0", 32)),
    Row("batch-q8_0", f"decode, {STREAMS} streams, Llama-1B Q8_0", 4, "tok/s", batched("llama-1b", "Q8_0", 24)),
    Row("batch-q4_k_m", f"decode, {STREAMS} streams, Llama-1B Q4_K_M", 4, "tok/s", batched("llama-1b", "Q4_K_M", 24)),
    Row("depth-8k", "decode at 8k context, f16 KV, Llama-1B Q4_0 cut to 4 layers", 1.5, "tok/s", depth),
    Row("http", "16 HTTP clients, Qwen-0.5B Q4_0; peer by default", 3, "tok/s", clients(0, [], 16), group="http"),
    Row("http-np16", "the same; peer with -np 16", 3, "tok/s", clients(0, ["-np", "16"], 16), group="http"),
    Row("prefix", "16 HTTP clients, shared 600-word prefix; peer by default", 10, "tok/s", clients(800, [], 16),
        group="prefix"),
    Row("prefix-np16", "the same; peer with -np 16", 10, "tok/s", clients(800, ["-np", "16"], 16), group="prefix"),
    Row("arrival", "longest wait of 8 streams while a 4k prompt arrives", None, "ms", arrival, smaller_is_better=True,
        limit=GAP_LIMIT_MS),
    Row("embeddings", "1,000 short texts, MiniLM", 3, "texts/s", embeddings),
]

# ik_llama.cpp 8337e4c against llama.cpp, both native builds on two cores with AVX-512 VNNI: the fastest peer known.
REFERENCE = [
    ("prefill-q4_0", 394, 263), ("prefill-q8_0", 390, 141), ("prefill-q4_k_m", 403, 188),
    ("decode-q4_0", 42.5, 46.5), ("decode-q8_0", 43, 35), ("decode-q4_k_m", 50, 46), ("batch-qwen", 193, 338),
]
