"""The run before each of a round's runs: how long it took, and what its result said. Asked for once a round.

A question to the lake costs thirty milliseconds of a core, whether for one run or for all; seven notebooks that end at
about the same time would each ask two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Self

from medisync.analyses.contract import Result
from medisync.lake import Lake
from medisync.runs.planning import Plan, answers_for, latest_of, parameters_hash
from medisync.runs.published import results_of
from medisync.runs.record import RunRecord


class EarlierRuns:
    """What was known before a round began: ``records`` by analysis and hash of parameters. Threads may share one."""

    def __init__(self, records: Mapping[tuple[str, str], RunRecord]) -> None:
        self._records = records
        self._results: dict[str, Result] | None = None
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[type[Self], tuple[Mapping[tuple[str, str], RunRecord]]]:
        return type(self), (self._records,)  # another machine reads the results itself

    @classmethod
    def of(cls, lake: Lake, plans: Iterable[Plan]) -> Self:
        """Those before the runs of ``plans``."""
        return cls(latest_of(lake, [(one.analysis, parameters_hash(one)) for one in plans]))

    def record(self, analysis: str, hash_of_parameters: str) -> RunRecord | None:
        """The newest completed run of the analysis with these parameters."""
        return self._records.get((analysis, hash_of_parameters))

    def answered(self, planned: Plan, snapshot_id: int) -> Plan:
        """``planned`` with the run before as its answer, if that read this snapshot or a later one."""
        before = self.record(planned.analysis, parameters_hash(planned))
        is_answer = before is not None and answers_for(planned, before, snapshot_id)
        return replace(planned, answered_by=before) if is_answer else planned

    def result(self, lake: Lake, record: RunRecord) -> Result | None:
        """The full result of one of :meth:`record`; those of all are read at the first call."""
        with self._turn:
            if self._results is None:
                self._results = results_of(lake, [one.run_id for one in self._records.values()], "full")
            return self._results.get(record.run_id)

    def longest_first(self, plans: Iterable[Plan]) -> list[Plan]:
        """``plans`` by how long they took before, the longest first, so that none is left over at the end; a new one
        might take any time, so it comes before all."""

        def seconds(one: Plan) -> float:
            before = self.record(one.analysis, parameters_hash(one))
            return before.seconds if before is not None else float("inf")

        return sorted(plans, key=seconds, reverse=True)
