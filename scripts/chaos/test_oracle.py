"""The oracle's own test: it passes a clean run and sees each planted fault. `python3 -m unittest` in this folder."""

import unittest
from dataclasses import replace

from evidence import DeadLetter, Delivery, Evidence, Result, Run
from oracle import judge


def delivery(kind: str, offset: int, ticket: str | None = None, work: str = "w0", **more: object) -> Delivery:
    fields: dict[str, object] = {"outcome": "COMPLETED" if ticket else None, "marker": f"{ticket}-{work}", **more}
    return Delivery(kind, kind, (0, offset), f"sum-{offset}", ticket, work if ticket else None, **fields)  # type: ignore[arg-type]


def run(ticket: str, offset: int, run_id: str = "r1", status: str = "COMPLETED") -> Run:
    return Run(f"ticket-{ticket}", f"{ticket}-{run_id}", status, (0, offset))


def result(ticket: str, offset: int, run_id: str = "r1", status: str = "COMPLETED", work: str = "w0") -> Result:
    name = f"{ticket}-{run_id}"
    return Result((0, offset), name, f"bytes-{name}", ticket, status, name, f'["true","{ticket}-{work}"]')


def letter(offset: int, code: str) -> DeadLetter:
    return DeadLetter((0, offset), code, f"sum-{offset}")


def clean() -> Evidence:
    """Ticket a with a duplicate and a collision, ticket b that fails, a record that is skipped, one that is no ticket."""
    deliveries = [
        delivery("fresh", 0, "a"),
        delivery("duplicate", 1, "a"),
        delivery("collision", 2, "a", "w1"),
        delivery("fresh", 3, "b", outcome="FAILED"),
        delivery("skipped", 4, "c"),
        delivery("poison", 5, codes=("invalid_json",), marker=None),
    ]
    return Evidence(
        deliveries=deliveries,
        records={d.position: d.sha256 for d in deliveries},
        runs=[run("a", 0), run("b", 3, status="FAILED")],
        # The second is a copy of the first, after a crash.
        results=[result("a", 0), result("a", 1), result("b", 2, status="FAILED")],
        # The same goes for dead letters.
        dead_letters=[letter(2, "ticket_id_collision"), letter(5, "invalid_json"), letter(5, "invalid_json")],
        end_offsets={0: 6},
        committed={0: 6},
    )


class Oracle(unittest.TestCase):
    def fails(self, evidence: Evidence, *names: str) -> None:
        """It fails, for these reasons and no others."""
        found = [reason.split(":")[0] for reason in judge(evidence).reasons]
        self.assertEqual(sorted(found), sorted(names))

    def test_a_clean_run_passes(self) -> None:
        verdict = judge(clean())
        self.assertEqual(verdict.reasons, [])
        counts = verdict.counts
        self.assertEqual((counts["tickets_published"], counts["tickets_started"], counts["results_distinct"]), (2, 2, 2))
        fates = [counts[f"records_{fate}"] for fate in ("started", "duplicate", "dead_letter", "skipped")]
        self.assertEqual(fates, [2, 1, 2, 1])
        self.assertEqual(counts["dead_letters_copies"], 1)

    def test_a_lost_ticket(self) -> None:
        seen = clean()
        seen = replace(seen, runs=seen.runs[:1], results=seen.results[:2])
        self.fails(seen, "tickets_lost", "records_unaccounted")

    def test_a_double_start(self) -> None:
        seen = clean()
        # Its duplicate started it too.
        seen = replace(seen, runs=[*seen.runs, run("a", 1, "r2")], results=[*seen.results, result("a", 3, "r2")])
        self.fails(seen, "tickets_started_twice")

    def test_a_double_start_by_one_record(self) -> None:
        seen = clean()
        seen = replace(seen, runs=[*seen.runs, run("a", 0, "r2")], results=[*seen.results, result("a", 3, "r2")])
        self.fails(seen, "tickets_started_twice")

    def test_a_contradictory_result(self) -> None:
        seen = clean()
        other = replace(result("a", 3, status="FAILED"), result_id="another", sha256="another")
        seen = replace(seen, results=[*seen.results, other])
        self.fails(seen, "tickets_with_two_results", "results_against_history", "results_with_wrong_status")

    def test_copies_of_a_result_with_different_bytes(self) -> None:
        seen = clean()
        self.fails(replace(seen, results=[*seen.results, replace(result("a", 3), sha256="x")]), "results_unequal_copies")

    def test_a_cancelled_ticket(self) -> None:
        seen = clean()
        deliveries = [replace(d, outcome="CANCELLED") if d.ticket_id == "b" else d for d in seen.deliveries]
        for status, run_status, reasons in (
            ("FAILED", "CANCELED", []),
            ("FAILED", "FAILED", ["results_with_wrong_status"]),
            ("COMPLETED", "COMPLETED", ["results_with_wrong_status"]),
            ("COMPLETED", "CANCELED", ["results_with_wrong_status", "results_against_history"]),
        ):
            runs = [seen.runs[0], replace(seen.runs[1], status=run_status)]
            results = [*seen.results[:2], result("b", 2, status=status)]
            with self.subTest((status, run_status)):
                self.fails(replace(seen, deliveries=deliveries, runs=runs, results=results), *reasons)

    def test_a_missing_result(self) -> None:
        seen = clean()
        self.fails(replace(seen, results=seen.results[:2]), "tickets_without_result")

    def test_a_result_of_other_work(self) -> None:
        seen = clean()
        results = [result("a", 0, work="w1"), seen.results[2]]
        self.fails(replace(seen, results=results), "results_of_other_work")

    def test_a_missing_dead_letter(self) -> None:
        seen = clean()
        for number, missing in ((0, 2), (1, 5)):
            letters = [dead for dead in seen.dead_letters if dead.source != (0, missing)]
            with self.subTest(number):
                self.fails(replace(seen, dead_letters=letters), "dead_letters_missing", "records_unaccounted")

    def test_a_dead_letter_of_a_good_ticket(self) -> None:
        seen = clean()
        letters = [*seen.dead_letters, letter(1, "ticket_refused")]
        self.fails(replace(seen, dead_letters=letters), "dead_letters_unexpected", "records_accounted_twice")

    def test_a_dead_letter_with_another_code_or_other_bytes(self) -> None:
        seen = clean()
        wrong = replace(letter(5, "oversized"), sha256="x")
        letters = [*seen.dead_letters, wrong]
        self.fails(replace(seen, dead_letters=letters), "dead_letters_wrong_code", "dead_letters_damaged")

    def test_whichever_of_two_tickets_with_one_id_comes_first_wins(self) -> None:
        seen = clean()
        letters = [letter(0, "ticket_id_collision"), letter(1, "ticket_id_collision"), letter(5, "invalid_json")]
        won = replace(
            seen,
            runs=[run("a", 2), seen.runs[1]],
            results=[result("a", 0, work="w1"), seen.results[2]],
            dead_letters=letters,
        )
        self.assertEqual(judge(won).reasons, [])

    def test_a_skipped_record_that_was_started(self) -> None:
        seen = clean()
        seen = replace(seen, runs=[*seen.runs, run("c", 4)], results=[*seen.results, result("c", 3)])
        self.fails(seen, "runs_of_no_ticket", "runs_without_record", "records_accounted_twice")

    def test_an_uncommitted_offset_and_an_open_run(self) -> None:
        seen = clean()
        self.fails(replace(seen, committed={0: 4}), "partitions_with_lag")
        seen = replace(seen, runs=[replace(seen.runs[0], status="RUNNING"), seen.runs[1]], results=[seen.results[2]])
        self.fails(seen, "runs_open", "tickets_without_result")

    def test_a_topic_that_is_not_what_was_published(self) -> None:
        seen = clean()
        records = {**seen.records, (0, 6): "sum-6"}
        del records[0, 4]
        self.fails(replace(seen, records=records), "journal_not_in_topic", "topic_not_in_journal")

    def test_a_redrive_of_a_failed_ticket_may_run_it_again_and_of_a_completed_one_may_not(self) -> None:
        for ticket, status, reasons in (("b", "FAILED", []), ("a", "COMPLETED", ["tickets_started_twice"])):
            seen = clean()
            again = delivery("redrive", 6, ticket, outcome=status)
            seen = replace(
                seen,
                deliveries=[*seen.deliveries, again],
                records={**seen.records, again.position: again.sha256},
                runs=[*seen.runs, run(ticket, 6, "r2", status)],
                results=[*seen.results, result(ticket, 3, "r2", status)],
                end_offsets={0: 7},
                committed={0: 7},
            )
            with self.subTest(ticket):
                self.fails(seen, *reasons)

    def test_a_redrive_that_is_ignored(self) -> None:
        for closed_ms, reasons in ((5_000, ["redrives_ignored"]), (9_900, []), (None, ["runs_open"])):
            seen = clean()
            again = delivery("redrive", 6, "b", outcome="FAILED", redrive=True, written_ms=10_000)
            status = "RUNNING" if closed_ms is None else "FAILED"
            seen = replace(
                seen,
                deliveries=[*seen.deliveries, again],
                records={**seen.records, again.position: again.sha256},
                runs=[seen.runs[0], replace(seen.runs[1], closed_ms=closed_ms, status=status)],
                results=seen.results if closed_ms else seen.results[:2],
                end_offsets={0: 7},
                committed={0: 7},
            )
            with self.subTest(closed_ms):
                self.fails(seen, *reasons, *([] if closed_ms else ["tickets_without_result"]))


if __name__ == "__main__":
    unittest.main()
