"""How bench/compare tells its results: JSON, a Markdown table, a picture of the ratios in SVG."""
import html
import json
import os

from lab import median
from rows import REFERENCE, ROWS


def figure(values):
    m = median(values)
    return f"{m:.0f}" if m >= 100 else f"{m:.1f}"


def spread(values):
    return f"{min(values):.2f}–{max(values):.2f} of {len(values)}" if len(values) > 1 else "one round"


def summary(row, rounds):
    """A row of the table, of its rounds."""
    found = {"name": row.name, "title": row.title, "must": row.must, "unit": row.unit, "group": row.group,
             "limit": row.limit, "commit": rounds[0]["commit"]}
    for key in ("ours", "peer"):
        found[key] = [r[key] for r in rounds]
    found["stream_gb_per_s"] = [x for r in rounds for x in r["stream_gb_per_s"]]
    found["notes"] = {side: [r["notes"][side] for r in rounds] for side in ("ours", "peer")}
    pairs = zip(found["ours"], found["peer"])
    found["ratios"] = [p / o if row.smaller_is_better else o / p for o, p in pairs]
    found["ratio"] = median(found["ratios"])
    return found


def ordered(results):
    return [summary(r, results["rows"][r.name]) for r in ROWS if results["rows"].get(r.name)]


def counting(results):
    """Rows that count: of a group, the one in which the peer was best."""
    best = {}
    for row in ordered(results):
        old = best.get(row["group"])
        if old is None or median(row["peer"]) > median(old["peer"]):
            best[row["group"]] = row
    return {row["name"] for row in best.values()}


def note_of(row):
    ours, peer = row["notes"]["ours"], row["notes"]["peer"]
    said = []
    fractions = [n["stream_fraction"] for n in ours if n.get("stream_fraction")]
    if fractions:
        said.append(f"{100 * median(fractions):.0f} % of the memory stream")
    if ours and "ttft_p50_ms" in ours[0]:
        mine, theirs = (median([n["ttft_p50_ms"] for n in side]) / 1000 for side in (ours, peer))
        said.append(f"first text p50 {mine:.2f} s against {theirs:.2f} s: 1/{theirs / mine:.1f}")
    if ours and "long_ttft_ms" in ours[0]:
        mine, theirs = (median([n["long_ttft_ms"] for n in side]) / 1000 for side in (ours, peer))
        said.append(f"the long prompt's first text after {mine:.1f} s against {theirs:.1f} s")
    return "; ".join(said)


def must_of(row):
    if row["limit"] is not None:
        reached = median(row["ours"]) <= row["limit"]
        return f"≤ {row['limit']} {row['unit']}", reached
    return f"≥ {row['must']:g}×", row["ratio"] >= row["must"]


def table(results):
    m, peer = results["machine"], results["peer"]
    flags = ", ".join(f"{k}={v}" for k, v in peer["flags"].items())
    lines = [f"Machine: {m['processor']}, {m['cores']} cores, {' '.join(m['isa'])}; {results['threads']} threads. "
             f"Peer: llama.cpp {peer['version']} ({flags}).", "",
             "| row | ours | llama.cpp | ratio | range | must | memory stream GB/s | |", "|---|---|---|---|---|---|---|---|"]
    counts = counting(results)
    for row in ordered(results):
        must, reached = must_of(row)
        mark = "" if row["name"] not in counts else ("reached" if reached else "**not reached**")
        notes = "; ".join(x for x in (note_of(row), mark if mark else "the peer's other setting is better") if x)
        lines.append(f"| {row['title']} | {figure(row['ours'])} {row['unit']} | {figure(row['peer'])} | {row['ratio']:.2f} "
                     f"| {spread(row['ratios'])} | {must} | {figure(row['stream_gb_per_s'])} | {notes} |")
    titles = {r.name: r.title for r in ROWS}
    said = "; ".join(f"{titles[n]} {ik} / {ll} = {ik / ll:.2f}" for n, ik, ll in REFERENCE)
    lines += ["", "For reference, ik_llama.cpp 8337e4c against llama.cpp v0.5.0 in tok/s, two cores with AVX-512 VNNI: "
              + said + "."]
    return "\n".join(lines)


def picture(results):
    """Bars of the ratios on a scale that begins at 0; a line at 1 (the peer), a tick at what must be."""
    rows = [r for r in ordered(results) if r["name"] in counting(results)]
    top = max([r["ratio"] for r in rows] + [r["must"] or 0 for r in rows] + [1.5]) * 1.1
    left, width, step, head = 430, 520, 30, 50
    height = head + step * len(rows) + 20

    def x(ratio):
        return left + width * ratio / top
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{height}" '
           'font-family="sans-serif" font-size="13">', f'<rect width="100%" height="{height}" fill="white"/>',
           f'<text x="10" y="20" font-size="15">bud against llama.cpp {html.escape(results["peer"]["version"])}, '
           f'{" ".join(results["machine"]["isa"])}: how many times as good</text>',
           f'<text x="10" y="38" fill="#666">thin line: range of rounds · black tick: what must be · grey line: 1</text>']
    for i, row in enumerate(rows):
        y = head + step * i
        reached = must_of(row)[1]
        out.append(f'<text x="10" y="{y + 18}">{html.escape(row["title"])}</text>')
        out.append(f'<rect x="{left}" y="{y + 5}" width="{x(row["ratio"]) - left:.1f}" height="18" '
                   f'fill="{"#3a8f5c" if reached else "#c9822b"}"/>')
        out.append(f'<line x1="{x(min(row["ratios"])):.1f}" x2="{x(max(row["ratios"])):.1f}" y1="{y + 14}" y2="{y + 14}" '
                   'stroke="#222"/>')
        if row["must"]:
            at = x(row["must"])
            out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y + 2}" y2="{y + 26}" stroke="black" stroke-width="3"/>')
        out.append(f'<text x="{x(max(row["ratios"] + [row["must"] or 0])) + 8:.1f}" y="{y + 18}">{row["ratio"]:.2f}</text>')
    out.append(f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{head}" y2="{height - 16}" stroke="#999"/>')
    return "\n".join(out + ["</svg>", ""])


def write(folder, results):
    for name, text in (("results.json", json.dumps(results, indent=1)), ("table.md", table(results) + "\n"),
                       ("ratios.svg", picture(results))):
        path = os.path.join(folder, name)
        with open(path + ".part", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".part", path)
