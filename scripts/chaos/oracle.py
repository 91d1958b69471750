#!/usr/bin/env python3
"""The oracle of a chaos run. It knows the journal of what was published, the topics and the server's list of runs, read
with foreign clients (`reading.py`), and nothing of the worker's code. `judge` is a pure function.

Prints one JSON line for each count and a verdict; the exit code is 0 only for a pass.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence import STARTABLE, DeadLetter, Delivery, Evidence, Position, Result, Run

WORKFLOW_PREFIX = "ticket-"
COLLISION = "ticket_id_collision"
# A reason names so many cases; all of them are in the topics.
EXAMPLES = 5
# By which the clocks of a producer and of the server may differ; here they are one.
CLOCKS_MS = 500
# Status of result and of run, by what a ticket must come to.
ENDS = {"COMPLETED": ("COMPLETED", "COMPLETED"), "FAILED": ("FAILED", "FAILED"), "CANCELLED": ("FAILED", "CANCELED")}


@dataclass
class Verdict:
    """Counts by name, and why the run fails; no reason is a pass."""

    counts: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.reasons

    def count(self, name: str, value: int) -> None:
        """Something to know."""
        self.counts[name] = value

    def fault(self, name: str, cases: Iterable[Any], meaning: str) -> None:
        """Something that must not be."""
        cases = list(cases)
        self.counts[name] = len(cases)
        if cases:
            shown = ", ".join(str(case) for case in cases[:EXAMPLES])
            more = f" and {len(cases) - EXAMPLES} more" if len(cases) > EXAMPLES else ""
            self.reasons.append(f"{name}: {len(cases)}: {meaning}: {shown}{more}")


class Case:
    """The evidence, indexed."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.delivery = {delivery.position: delivery for delivery in evidence.deliveries}
        self.tickets: dict[str, list[Delivery]] = defaultdict(list)
        for delivery in evidence.deliveries:
            if delivery.kind in STARTABLE and delivery.ticket_id is not None:
                self.tickets[delivery.ticket_id].append(delivery)
        self.runs: dict[str, list[Run]] = defaultdict(list)
        for run in evidence.runs:
            self.runs[run.workflow_id.removeprefix(WORKFLOW_PREFIX)].append(run)
        self.started = {run.started_by for run in evidence.runs}
        self.dead: dict[Position, list[DeadLetter]] = defaultdict(list)
        for letter in evidence.dead_letters:
            if letter.source is not None:
                self.dead[letter.source].append(letter)

    def starter(self, run: Run) -> Delivery | None:
        """The record that started a run, if it could have."""
        delivery = self.delivery.get(run.started_by) if run.started_by else None
        fits = delivery is not None and delivery.kind in STARTABLE
        return delivery if fits and run.workflow_id == f"{WORKFLOW_PREFIX}{delivery.ticket_id}" else None

    def works(self, ticket_id: str | None) -> set[str | None]:
        """What a ticket's runs were asked to do."""
        starters = (self.starter(run) for run in self.runs.get(ticket_id or "", []))
        return {starter.work for starter in starters if starter is not None}

    def must_be_dead(self, delivery: Delivery) -> bool:
        """Whether a record belongs into the dead-letter topic: it is no ticket, or another ticket has its id."""
        if delivery.kind not in STARTABLE:
            return delivery.kind == "poison"
        works = self.works(delivery.ticket_id)
        return bool(works) and delivery.work not in works


def judge(evidence: Evidence) -> Verdict:
    """Holds the evidence against the guarantee."""
    case, verdict = Case(evidence), Verdict()
    _journal(case, verdict)
    _starts(case, verdict)
    _dead_letters(case, verdict)
    _accounts(case, verdict)
    _results(case, verdict)
    lag = {p: end - evidence.committed.get(p, 0) for p, end in evidence.end_offsets.items()}
    verdict.count("uncommitted_records", sum(lag.values()))
    verdict.fault(
        "partitions_with_lag", [f"partition {p}: {behind}" for p, behind in lag.items() if behind],
        "committed offsets are not at the end",
    )
    return verdict


def _journal(case: Case, verdict: Verdict) -> None:
    evidence = case.evidence
    verdict.count("deliveries", len(evidence.deliveries))
    for kind, number in sorted(Counter(delivery.kind for delivery in evidence.deliveries).items()):
        verdict.count(f"deliveries_{kind}", number)
    # The stack's own faults: what is not in the topic cannot have been lost by the worker.
    verdict.fault(
        "journal_not_in_topic",
        [d.position for d in evidence.deliveries if evidence.records.get(d.position, "") != d.sha256],
        "acknowledged records that the topic does not hold as published",
    )
    verdict.fault("topic_not_in_journal", evidence.records.keys() - case.delivery.keys(), "records of nobody")


def _starts(case: Case, verdict: Verdict) -> None:
    lost = [
        ticket_id for ticket_id, deliveries in case.tickets.items()
        if ticket_id not in case.runs and not any(d.position in case.dead for d in deliveries)
    ]
    verdict.count("tickets_published", len(case.tickets))
    verdict.count("tickets_started", sum(ticket_id in case.runs for ticket_id in case.tickets))
    verdict.count("runs", len(case.evidence.runs))
    verdict.fault("tickets_lost", lost, "neither a workflow nor a dead letter")
    verdict.fault(
        "tickets_started_twice", [ticket_id for ticket_id, runs in case.runs.items() if not _runs_allowed(case, runs)],
        "more runs than records that may start one",
    )
    ignored = [d.position for d in case.delivery.values() if d.redrive and _ignored(case, d)]
    verdict.count("runs_redriven", sum(max(len(runs) - 1, 0) for runs in case.runs.values()))
    verdict.fault("redrives_ignored", ignored, "the ticket's run had failed, and the record did not run it again")
    verdict.fault("runs_of_no_ticket", case.runs.keys() - case.tickets.keys(), "nobody published such a ticket")
    verdict.fault(
        "runs_without_record", [run.workflow_id for run in case.evidence.runs if case.starter(run) is None],
        "the record that started it is not one of this ticket",
    )
    verdict.fault("runs_open", [r.workflow_id for r in case.evidence.runs if r.status == "RUNNING"], "not closed")


def _runs_allowed(case: Case, runs: list[Run]) -> bool:
    """One run; after a re-drive of a ticket that fails another, each started by a record of its own."""
    if len(runs) == 1:
        return True
    starters = [case.starter(run) for run in runs]
    known = [starter for starter in starters if starter is not None]
    redriven = [starter for starter in known if starter.kind == "redrive" and starter.outcome == "FAILED"]
    distinct = len({starter.position for starter in known}) == len(runs)
    return distinct and len(runs) - len(redriven) <= 1


def _ignored(case: Case, delivery: Delivery) -> bool:
    """Whether a re-drive had no effect although every run of its ticket had failed before it was written."""
    runs = case.runs.get(delivery.ticket_id or "", [])
    over = all(run.closed_ms is not None and run.closed_ms + CLOCKS_MS < delivery.written_ms for run in runs)
    return bool(runs) and over and delivery.position not in case.started


def _dead_letters(case: Case, verdict: Verdict) -> None:
    letters = case.evidence.dead_letters
    verdict.count("dead_letters", len(letters))
    verdict.count("dead_letters_copies", sum(len(copies) - 1 for copies in case.dead.values()))
    for code, number in sorted(Counter(str(letter.code) for letter in letters).items()):
        verdict.count(f"dead_letters_{code}", number)
    expected = {d.position: d for d in case.evidence.deliveries if case.must_be_dead(d)}
    verdict.count("dead_letters_expected", len(expected))
    verdict.fault(
        "dead_letters_missing", [f"{d.variant} at {p}" for p, d in expected.items() if p not in case.dead],
        "no dead letter names this record",
    )
    verdict.fault(
        "dead_letters_unexpected",
        [f"{letter.code} at {letter.source}" for letter in letters if letter.source not in expected],
        "the record should not be there",
    )
    wrong, damaged = [], []
    for position, delivery in expected.items():
        codes = {COLLISION} if delivery.kind in STARTABLE else set(delivery.codes)
        for letter in case.dead.get(position, []):
            if letter.code not in codes:
                wrong.append(f"{letter.code} instead of {sorted(codes)} at {position}")
            if letter.sha256 != delivery.sha256:
                damaged.append(position)
    verdict.fault("dead_letters_wrong_code", wrong, "another reason than the record has")
    verdict.fault("dead_letters_damaged", damaged, "not the original bytes")


def _accounts(case: Case, verdict: Verdict) -> None:
    """Each record is exactly one of started, duplicate, dead letter, skipped."""
    fates: Counter[str] = Counter()
    none, several = [], []
    for position, delivery in case.delivery.items():
        started, dead = position in case.started, position in case.dead
        startable = delivery.kind in STARTABLE
        found = {
            "started": started,
            "dead_letter": dead,
            "duplicate": startable and not started and delivery.work in case.works(delivery.ticket_id),
            "skipped": delivery.kind == "skipped",
        }
        fate = [name for name, is_so in found.items() if is_so]
        if len(fate) == 1:
            fates[fate[0]] += 1
        else:
            (several if fate else none).append(f"{delivery.kind} at {position}: {fate}")
    for name in ("started", "duplicate", "dead_letter", "skipped"):
        verdict.count(f"records_{name}", fates[name])
    verdict.fault("records_unaccounted", none, "nothing became of it")
    verdict.fault("records_accounted_twice", several, "more than one thing became of it")


def _results(case: Case, verdict: Verdict) -> None:
    results = case.evidence.results
    verdict.count("results", len(results))
    verdict.count("results_distinct", len({result.result_id for result in results}))
    for status, number in sorted(Counter(str(result.status) for result in results).items()):
        verdict.count(f"results_{status}", number)
    of_run: dict[tuple[str | None, str | None], list[Result]] = defaultdict(list)
    bytes_of: dict[str | None, set[str]] = defaultdict(set)
    for result in results:
        of_run[result.ticket_id, result.run_id].append(result)
        bytes_of[result.result_id].add(result.sha256)
    runs = {(ticket_id, run.run_id): run for ticket_id, all_of_it in case.runs.items() for run in all_of_it}
    verdict.fault(
        "tickets_with_two_results",
        [key[0] for key, copies in of_run.items() if len({copy.result_id for copy in copies}) > 1],
        "different terminal results of one run",
    )
    verdict.fault(
        "results_unequal_copies", [name for name, found in bytes_of.items() if len(found) > 1],
        "one result id with different bytes",
    )
    verdict.fault("results_without_id", [r.position for r in results if not r.result_id], "no result id in the header")
    verdict.fault("results_of_no_run", [key for key in of_run if key not in runs], "the server knows no such run")
    verdict.fault(
        "tickets_without_result", sorted({ticket_id for ticket_id, run_id in runs if (ticket_id, run_id) not in of_run}),
        "a run without a terminal result",
    )
    wrong_status, wrong_work, against = [], [], []
    for key, copies in of_run.items():
        run = runs.get(key)
        starter = case.starter(run) if run else None
        for result in copies:
            # The status of a ticket knows no cancellation.
            if run and result.status != ("FAILED" if run.status == "CANCELED" else run.status):
                against.append(f"{key[0]}: result {result.status}, run {run.status}")
            if run and starter and (result.status, run.status) != ENDS.get(starter.outcome or ""):
                wrong_status.append(f"{key[0]}: {result.status} and run {run.status} instead of {starter.outcome}")
            if starter and starter.marker and starter.marker not in result.command:
                wrong_work.append(f"{key[0]}: {result.command!r} instead of {starter.marker}")
    verdict.fault("results_against_history", against, "result and run say different things")
    verdict.fault("results_with_wrong_status", wrong_status, "the work cannot end so")
    verdict.fault("results_of_other_work", wrong_work, "not the command that the starting record asks for")


def main() -> int:
    """Reads, judges, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--journal", type=Path, required=True, help="JSON lines: what was published, and where it is")
    parser.add_argument("--kafka", required=True, help="bootstrap servers")
    parser.add_argument("--group", default="worker-agents", help="consumer group of the workers")
    parser.add_argument("--registry", required=True, help="base URL of the schema registry")
    parser.add_argument("--temporal", required=True, help="host:port of the frontend")
    parser.add_argument("--temporal-cli", type=Path, required=True)
    parser.add_argument("--defect", action="append", default=[], help="something wrong that is not in the evidence")
    options = parser.parse_args()
    # Here, so that `judge` and its tests need no package.
    from reading import read

    verdict = judge(
        read(options.journal, options.kafka, options.group, options.registry, options.temporal, options.temporal_cli)
    )
    verdict.fault("defects", options.defect, "seen during the run")
    for name, value in verdict.counts.items():
        print(json.dumps({"name": name, "value": value}))
    print(json.dumps({"verdict": "pass" if verdict.passed else "fail", "reasons": verdict.reasons}), flush=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
