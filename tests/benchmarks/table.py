"""The README's table of speeds, from the JSON that the benchmarks keep for each machine.

pytest tests/benchmarks --benchmark-enable -k "targets or report or memory"    # measures what this machine can
python tests/benchmarks/table.py                                               # writes the table into README.md
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
README, KEPT = ROOT / "README.md", ROOT / "results" / "reference" / "benchmarks"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->"

# id → what is measured, the straightforward way, the target
TARGETS = {
    "train-cpu": ("joint training, ResNet-18 + module, batch 128, CPU", "DataLoader, PIL, fp32", "≥ 2.5× (bf16)"),
    "train-cpu-fp32": ("the same in fp32", "DataLoader, PIL, fp32", "≥ 1.2×"),
    "train-gpu": ("the same, GPU", "DataLoader, PIL, fp32", "≥ 15×"),
    "train-gpu-bare": ("the same, GPU", "a bare compiled step, synthetic data", "≥ 0.6×"),
    "trial-gpu": ("one whole ll4al-cifar10 trial (learning loss)", "", "≤ 180 s"),
    "graphs-gpu": ("the same training as a CUDA graph, GPU", "compiled", "what wins is kept"),
    "per-gpu": ("trials at once on one GPU, a process each: 1, 2, 4, 8", "1", "what wins is kept"),
    "streams-gpu": ("steps of 4 trials in one process, a stream each, GPU", "one after another", "what wins is kept"),
    "vectorised-gpu": ("steps of 4 trials as one vectorised model, GPU", "one after another", "what wins is kept"),
    "vectorised-cpu": ("steps of 2 trials as one vectorised model, CPU", "one after another", "what wins is kept"),
    "k-center-cpu": ("k-center, 20k pool, 1k labelled, 1k picks, d 512", "scikit-learn, incremental", "≥ 3×"),
    "k-center-gpu": ("k-center, 50k pool, 1k picks, d 512, GPU", "", "< 0.3 s"),
    "badge": ("BADGE's k-means++, 10k × (100 ⊗ 512), 50 picks", "outer products materialised", "≥ 25×"),
    "overhead": ("`quick`: outside training, evaluation, scoring, selection, diagnoses", "", "< 3 %"),
    "overhead-all": ("the same, with the diagnoses that reports show", "", "< 3 %"),
    "map": ("mAP of 4,952 images from raw SSD outputs, 2 threads, by the clock", "", "< 15 s"),
    "second-start": ("second start to the first training step, tiny task", "", "< 3 s"),
    "report": ("`albench report` of 10,000 trials × 10 stages, by the clock", "", "< 30 s"),
    "report-memory": ("the same, peak of all its processes together", "", "< 2 GB"),
    "memory-train-cifar": ("peak memory, joint training: ResNet-18, batch 128, fp32", "", ""),
    "memory-train-pose": ("the same: two-stack hourglass, batch 6", "", ""),
    "memory-train-voc": ("the same: SSD300, batch 32", "", ""),
    "memory-score-voc-16": ("peak memory, scoring with SSD300: 16 images", "", ""),
    "memory-score-voc-64": ("the same: 64 images, 16 at a time", "", "as of 16, but for the images"),
}


def number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def cell(way, unit):
    rounds = way.get("rounds", 1)
    spread = f" ({number(way['least'])}–{number(way['most'])}, {rounds} rounds)" if rounds > 1 else " (1 round)"
    return f"{number(way['median'])}{spread} {unit}"


def render(folder=KEPT):
    """Markdown: a line a target and machine; "not measured" where no machine has."""
    machines = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    lines = ["| what | straightforward | albench | ratio | target | machine |", "|---|---|---|---|---|---|"]
    for row, (what, plain, target) in TARGETS.items():
        found = [kept["rows"][row] for kept in machines if row in kept["rows"]]
        if not found:
            lines.append(f"| {what} | {plain} | not measured | | {target} | |")
        for one in found:
            *others, ours = one["ways"].values()
            before = f"{plain}: {cell(others[0], one['unit'])}" if others else plain
            ratio = "" if one["ratio"] is None else f"{float(format(one['ratio'], '.2g')):g}×"  # 130, not 1.3e+02
            lines.append(f"| {what} | {before} | {cell(ours, one['unit'])} | {ratio} | {target} | {one['machine']} |")
    return "\n".join(lines) + "\n"


def within(readme, rendered):
    """The README with the table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{rendered}{END}{after}"


if __name__ == "__main__":
    README.write_text(within(README.read_text(encoding="utf-8"), render()), encoding="utf-8")
