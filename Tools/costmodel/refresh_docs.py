"""Writes the marked numbers of docs/cost-model.md, and its charts, from the program's output.

    python3 Tools/costmodel/refresh_docs.py .build/release/step3

A mark is `VALUE<!--=report;column;label;…;style-->`: the cell of the report's first row that
begins with the labels. Styles: .N decimals, ,N decimals with thousands apart, %N percent, eN
significant digits with an exponent. PlanningTests reads the marks the same way and compares.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cost-model.md"
CHARTS = ["figure2", "figure3", "figure5", "table9"]
MARK = re.compile(r"[^ \n|(]+<!--=([^>]*?)-->")


def shown(value: float, style: str) -> str:
    digits = int(style[1:])
    if style[0] == "%":
        return f"{round_half_up(value * 100, digits)} %"
    if style[0] == "e":
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    text = round_half_up(value, digits)
    return f"{float(text):,.{digits}f}" if style[0] == "," else text


def round_half_up(value: float, digits: int) -> str:
    scaled = int(abs(value) * 10**digits + 0.5) / 10**digits
    return f"{-scaled if value < 0 and scaled else scaled:.{digits}f}"


def cell(reports: dict, mark: str) -> float:
    report, column, *labels, _ = mark.split(";")
    keys = [entry["key"] for entry in reports[report]["columns"]]
    for row in reports[report]["rows"]:
        values = [row[key] for key in keys[: len(labels)]]
        same = (str(v) == label or (isinstance(v, int | float) and f"{v:g}" == label)
                for v, label in zip(values, labels, strict=True))
        if all(same):
            return row[column]
    raise SystemExit(f"no cell for {mark}")


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / ".build/release/step3")
    output = subprocess.run([program, "cost", "--report", "all", "--format", "json"],
                            check=True, capture_output=True, text=True).stdout
    reports = {report["report"]: report for report in json.loads(output)["reports"]}
    text = PAGE.read_text()
    PAGE.write_text(MARK.sub(
        lambda m: f"{shown(cell(reports, m[1]), m[1].rsplit(';', 1)[1]).replace(' ', chr(160))}"
                  f"<!--={m[1]}-->", text))
    folder = PAGE.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name in CHARTS:
        subprocess.run([program, "cost", "--report", name, "--chart", folder / f"{name}.svg"],
                       check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "plan.json"
        subprocess.run([program, "plan", "--hardware", "h100", "--context", "4K", "--out", plan],
                       check=True, capture_output=True)
        subprocess.run([program, "simulate", "--plan", plan, "--duration", "5", "--fidelity",
                        "counting", "--chart", folder / "timeline.svg"],
                       check=True, capture_output=True)


if __name__ == "__main__":
    main()
