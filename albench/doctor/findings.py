"""What an examination finds, and what a repair would do about it."""

from dataclasses import dataclass, field
from pathlib import Path

from albench.store import Trial


@dataclass(frozen=True)
class Finding:
    """One line: where, and what it means. A note (`problem` False) is worth knowing, but nothing is wrong."""

    where: str  # below the run folder
    meaning: str
    problem: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.meaning}"


@dataclass
class Health:
    """Findings of a run folder, in the order they were met."""

    findings: list[Finding] = field(default_factory=list)
    keep: dict[Trial, list[bytes]] = field(default_factory=dict)  # trials to be cut → the lines that stay
    aside: set[Path] = field(default_factory=set)  # files to be set aside, below the run folder
    tables: bool = False  # whether the derived tables are to be made again

    def problems(self) -> list[Finding]:
        """The findings that are no mere notes."""
        return [finding for finding in self.findings if finding.problem]

    def problem(self, where: str, meaning: str) -> None:
        """Something is wrong."""
        self.findings.append(Finding(where, meaning))

    def note(self, where: str, meaning: str) -> None:
        """Something is worth knowing; the same note is kept once."""
        finding = Finding(where, meaning, problem=False)
        if finding not in self.findings:
            self.findings.append(finding)
