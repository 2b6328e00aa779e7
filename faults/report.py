"""What came of a campaign of inputs, as JSON and as a table."""

import hashlib
import json
import pathlib

from faults.kinds import KINDS
from faults.workers import CPU_SECONDS, CPU_SECONDS_PER_GIB, WALL_SECONDS, Outcome


class Tally:
    """Counts outcomes by kind; of a campaign, or of one `case` of one kind."""

    def __init__(self, seed: int, cases: int, kinds: list[str], case: int | None = None):
        self.seed, self.cases, self.kinds, self.case = seed, cases, kinds, case
        self.rows: dict[str, dict] = {}
        self.defects: list[dict] = []
        self._digest = hashlib.sha256()

    def add(self, outcome: Outcome) -> None:
        """Counts one."""
        new = {"tried": 0, "accepted": 0, "refused": 0, "defect": 0, "seconds": 0.0, "mib": 0.0}
        row = self.rows.setdefault(outcome.kind, new)
        row["tried"] += 1
        row[outcome.result] += 1
        row["seconds"] = max(row["seconds"], outcome.seconds)
        row["mib"] = max(row["mib"], outcome.mib)
        self._digest.update(f"{outcome.kind} {outcome.number} {outcome.result} {outcome.told}\n".encode())
        if outcome.result == "defect":
            self.defects.append(vars(outcome))

    def as_json(self, wall_seconds: float) -> dict:
        """Returns the report. Its `digest` is over kind, number, change and result of each case: a run that is
        repeated has the same."""
        return {
            "seed": self.seed,
            "cases": self.cases,
            "again": self.again,
            "digest": self._digest.hexdigest(),
            "bounds": {
                "cpu_seconds": CPU_SECONDS,
                "cpu_seconds_per_gib": CPU_SECONDS_PER_GIB,
                "wall_seconds": WALL_SECONDS,
                "mib": {kind: KINDS[kind].mib for kind in self.rows},
            },
            "wall_seconds": round(wall_seconds, 1),
            "kinds": self.rows,
            "defects": self.defects,
        }

    @property
    def again(self) -> str:
        """The command that makes the same run."""
        kinds = "" if self.kinds == list(KINDS) else f" --kind={','.join(self.kinds)}"
        which = f"--cases={self.cases}{kinds}" if self.case is None else f"--kind={self.kinds[0]} --case={self.case}"
        return f"python -m faults inputs --seed={self.seed} {which} --workdir=DIR"

    def table(self) -> str:
        """Returns a table in Markdown."""
        lines = [
            "| kind | tried | accepted | refused | defects | slowest, CPU s | most memory, MiB |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        total = {key: sum(row[key] for row in self.rows.values()) for key in ("tried", "accepted", "refused", "defect")}
        most = {key: max((row[key] for row in self.rows.values()), default=0.0) for key in ("seconds", "mib")}
        for kind, row in {**self.rows, "all": {**total, **most}}.items():
            lines.append(
                f"| {kind} | {row['tried']} | {row['accepted']} | {row['refused']} | {row['defect']} | "
                f"{row['seconds']:.2f} | {row['mib']:.0f} |"
            )
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
