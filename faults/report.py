"""What came of a campaign, as JSON and as a table."""

import hashlib
import json
import pathlib
from collections import Counter

from faults.kinds import KINDS
from faults.workers import CPU_SECONDS, CPU_SECONDS_PER_GIB, WALL_SECONDS, Outcome


class Report:
    """Counts what came of cases, by kind; a part of the tool has one.

    Args:
        part: The part, as it is typed.
        seed: Of all cases.
        asked: The other flags that make the same run.
        columns: The keys of what is counted, each with its title.
    """

    def __init__(self, part: str, seed: int, asked: str, columns: dict[str, str]):
        self.seed, self.columns = seed, columns
        self.again = f"python -m faults {part} --seed={seed} {asked} --workdir=DIR"
        self.rows: dict[str, Counter] = {}
        self.defects: list[dict] = []
        self._digest = hashlib.sha256()

    def count(self, kind: str, number: int, told: str, result: str, why: str, counts: dict[str, int]) -> None:
        """Counts a case; `result` is "defect" where it is one, and `counts` are added to the kind's row."""
        row = self.rows.setdefault(kind, Counter(dict.fromkeys(self.columns, 0)))
        row.update({"tried": 1, **counts})
        self._digest.update(f"{kind} {number} {result} {told}\n".encode())
        if result == "defect":
            row["defect"] += 1
            self.defects.append({"kind": kind, "number": number, "told": told, "why": why})

    def as_json(self, wall_seconds: float) -> dict:
        """Returns the report. Its `digest` is over kind, number, change and result of each case: a run that is
        repeated has the same."""
        return {
            "seed": self.seed,
            "again": self.again,
            "digest": self._digest.hexdigest(),
            "wall_seconds": round(wall_seconds, 1),
            "kinds": self.rows,
            "defects": self.defects,
        }

    def cells(self, row: Counter) -> list[str]:
        """Returns what the table has of a row."""
        return [str(row[key]) for key in self.columns]

    def total(self) -> Counter:
        """Returns the last row."""
        return sum(self.rows.values(), Counter())

    def table(self) -> str:
        """Returns a table in Markdown."""
        lines = ["| " + " | ".join(("kind", *self.columns.values())) + " |", "|---|" + "---:|" * len(self.columns)]
        for kind, row in {**self.rows, "all": self.total()}.items():
            lines.append(f"| {' | '.join((kind, *self.cells(row)))} |")
        return "\n".join(lines)

    def write(self, workdir: pathlib.Path, wall_seconds: float) -> None:
        """Writes report.json and report.md."""
        report = self.as_json(wall_seconds)
        (workdir / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        defects = "\n".join(f"- {d['kind']} {d['number']}: {d['told']}: {d['why'][:300]!r}" for d in self.defects)
        (workdir / "report.md").write_text(
            f"`{self.again}`: {wall_seconds:,.0f} seconds, digest {report['digest'][:16]}\n\n"
            f"{self.table()}\n\n{defects}\n"
        )


class Tally(Report):
    """Counts outcomes of inputs by kind; of a campaign, or of one `case` of one kind."""

    def __init__(self, seed: int, cases: int, kinds: list[str], case: int | None = None):
        self.cases = cases
        every = "" if kinds == list(KINDS) else f" --kind={','.join(kinds)}"
        asked = f"--cases={cases}{every}" if case is None else f"--kind={kinds[0]} --case={case}"
        columns = {"tried": "tried", "accepted": "accepted", "refused": "refused", "defect": "defects"}
        super().__init__("inputs", seed, asked, {**columns, "seconds": "slowest, CPU s", "mib": "most memory, MiB"})

    def add(self, outcome: Outcome) -> None:
        """Counts one."""
        counts = {} if outcome.result == "defect" else {outcome.result: 1}
        self.count(outcome.kind, outcome.number, outcome.told, outcome.result, outcome.why, counts)
        row = self.rows[outcome.kind]
        for key in ("seconds", "mib"):
            row[key] = max(row[key], getattr(outcome, key))

    def total(self):
        most = {key: max((row[key] for row in self.rows.values()), default=0.0) for key in ("seconds", "mib")}
        return Counter({**super().total(), **most})

    def cells(self, row):
        return [*(str(row[key]) for key in list(self.columns)[:-2]), f"{row['seconds']:.2f}", f"{row['mib']:.0f}"]

    def as_json(self, wall_seconds):
        bounds = {
            "cpu_seconds": CPU_SECONDS,
            "cpu_seconds_per_gib": CPU_SECONDS_PER_GIB,
            "wall_seconds": WALL_SECONDS,
            "mib": {kind: KINDS[kind].mib for kind in self.rows},
        }
        return {**super().as_json(wall_seconds), "cases": self.cases, "bounds": bounds}
