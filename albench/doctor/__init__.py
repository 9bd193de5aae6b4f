"""Is a run folder sound, and if not, how does the run go on? Nothing is trained here; `albench.verify` does that."""

from albench.doctor.examine import examine
from albench.doctor.findings import Finding, Health
from albench.doctor.repair import repair

__all__ = ["Finding", "Health", "examine", "repair"]
