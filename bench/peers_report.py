"""The table, the verdicts and the plot of `peers.py`, from its JSON.

python bench/peers_report.py docs/results/peers-DATE.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
TASKS = ("encode", "prompt", "64 boxes", "end to end")
Result = dict[str, Any]


def table(result: Result) -> list[str]:
    heads = ["", *(f"{task}, s" for task in TASKS), "peak, MiB", "start, s", "IoU: click, boxes"]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, row in result["rows"].items():
        cells = [f"{row['median'][task]:.3f}" for task in TASKS]
        cells[2] += "" if row["batches"] else " *"
        iou = f"{row['iou']['click']:.4f}, {row['iou']['boxes']:.4f}"
        cells += [str(row["peak_mib"]), f"{row['start_s']:.2f}", iou]
        label = f"**{name}**" if row["own"] else name
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return [*lines, "", "\\* 64 calls: it takes one prompt a call."]


def verdicts(result: Result) -> list[str]:
    """Compare with what was aimed at: ratios of medians, and whether they reach it."""
    rows = result["rows"]
    peers = {name: row for name, row in rows.items() if not row["own"]}
    fp32 = {n: r for n, r in rows.items() if r["own"] and not n.endswith(("int8", "bf16"))}
    reduced = {n: r for n, r in rows.items() if r["own"] and n.endswith(("int8", "bf16"))}
    lines = ["| aim | reached | |", "|---|---:|---|"]

    def best(group: dict[str, Any], task: str) -> tuple[str, float]:
        return min(((n, r["median"][task]) for n, r in group.items()), key=lambda item: item[1])

    def add(aim: str, value: float, least: float, note: str) -> None:
        verdict = "reached" if value >= least else "missed"
        lines.append(f"| {aim} | {value:.2f} | {verdict}: {note} |")

    if "segment-anything 1.0" in peers and fp32:
        name, ours = best(fp32, "encode")
        theirs = peers["segment-anything 1.0"]["median"]["encode"]
        add("encode, fp32: 2.5x ahead of segment-anything", theirs / ours, 2.5, name)
        if reduced:
            name, ours = best(reduced, "encode")
            add("encode, bf16 or int8: 5x ahead of segment-anything", theirs / ours, 5, name)
    onnx = {n: r for n, r in peers.items() if n.startswith("samexporter")}
    if onnx and "samtrt onnxruntime" in fp32:
        theirs = best(onnx, "encode")[1]
        ours = fp32["samtrt onnxruntime"]["median"]["encode"]
        aim = "encode, fp32: 1.15x ahead of the best ONNX of a peer, same runtime"
        add(aim, theirs / ours, 1.15, "samtrt onnxruntime")
    if peers and fp32:
        name, ours = best(fp32, "prompt")
        peer, theirs = best(peers, "prompt")
        add("one prompt: at most half of the best peer's time", theirs / ours, 2, f"{name}, {peer}")
        name, ours = best(fp32, "64 boxes")
        peer, theirs = best(peers, "64 boxes")
        add("64 prompts: 3x ahead of the best peer's 64", theirs / ours, 3, f"{name}, {peer}")
        calls = fp32[name]["median"]["64 calls"]
        add("64 prompts: 3x ahead of 64 calls of our own", calls / ours, 3, name)
        name = min(fp32, key=lambda n: fp32[n]["peak_mib"])
        peer = min(peers, key=lambda n: peers[n]["peak_mib"])
        ratio = peers[peer]["peak_mib"] / fp32[name]["peak_mib"]
        add("peak memory: no higher than the best peer's", ratio, 1, f"{name}, {peer}")
    starts = result["start_up_s"]
    for name, limit in (("import samtrt", 0.15), ("samtrt --help", 0.4)):
        add(f"{name} under {limit} s, whole process (ratio)", limit / starts[name], 1, "process")
    return lines


def plot(result: Result, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"]
    figure, axes = plt.subplots(1, 4, figsize=(14, 0.45 * len(rows) + 1), sharey=True)
    names = list(rows)[::-1]
    for axis, measure in zip(axes, (*TASKS[:3], "peak_mib"), strict=True):
        values = [rows[n]["peak_mib"] if measure == "peak_mib" else rows[n]["median"][measure]
                  for n in names]  # fmt: skip
        bars = axis.barh(names, values, color=["#2a78d6" if rows[n]["own"] else "#b5b5ad"
                                               for n in names])  # fmt: skip
        axis.bar_label(bars, fmt="%.0f" if measure == "peak_mib" else "%.3g", padding=3, fontsize=8)
        axis.set_title(
            "peak memory, MiB" if measure == "peak_mib" else f"{measure}, s", fontsize=10
        )
        axis.set_xlim(0, 1.2 * max(values))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    threads, cpu = result["machine"]["threads"], result["machine"]["cpu"]
    figure.suptitle(f"ViT-B, 1800 x 1200, {cpu}, {threads} threads: less is better", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def write_report(result: Result, source: Path) -> None:
    """Write docs/peers.md and docs/images/peers.png."""
    there, starts = result["machine"], result["start_up_s"]
    versions = ", ".join(f"{name} {found}" for name, found in there["versions"].items())
    before, after = (result["load"][when][0] for when in ("before", "after"))
    rounds = len(next(iter(result["rows"].values()))["seconds"]["encode"])
    lines = [
        "# Beside other implementations, on a CPU",
        "",
        f"`{result['command']}`, {result['date']}: {there['cpu']}, {there['cores']} cores with "
        f"{', '.join(there['has'])}; {there['threads']} threads, {rounds} rounds, medians; load "
        f"{before:.1f} before and {after:.1f} after. ViT-B, seeded weights, 1800 x 1200 pixels. "
        "What each column is: the head of `bench/peers.py`.",
        "",
        *table(result),
        "",
        "![The same as bars](images/peers.png)",
        "",
        *verdicts(result),
        "",
        f"Whole processes, s: {', '.join(f'{n} {s:.3f}' for n, s in starts.items())}.",
        "",
        f"Versions: {versions}. Every time: [JSON](results/{source.name}). What the figures come "
        "from and what was tried: [On a CPU](cpu.md);\n"
        "MobileSAM beside its peers, in float32 and bf16: [there too](cpu.md#mobilesam).",
        "",
    ]
    (DOCS / "peers.md").write_text("\n".join(lines))
    plot(result, DOCS / "images" / "peers.png")
    print("\n".join(lines))


if __name__ == "__main__":
    source = Path(sys.argv[1])
    write_report(json.loads(source.read_text()), source)
