#!/usr/bin/env python3
"""The arithmetic of the report. Run by `cargo test -p memcloud-bench`."""

import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import report  # noqa: E402
from scenarios import SCENARIOS, TARGETS, Scenario, Target  # noqa: E402


def round_of(per_second, p50=10.0, cpu=5.0):
    return {"per_second": per_second, "p50_us": p50, "p99_us": 20.0, "p999_us": 30.0, "cpu_us": cpu, "peer_us": None,
            "store_us": 4.0, "own_us": 5.0}


class Statistics(unittest.TestCase):
    def test_the_median_leaves_out_what_was_not_measured(self):
        found = report.medians([round_of(100), None, round_of(300), round_of(200)])
        self.assertEqual(found["per_second"], 200)
        self.assertIsNone(found["peer_us"])
        self.assertIsNone(report.medians([None])["per_second"])

    def test_a_ratio_is_taken_inside_each_round(self):
        # The machine halves its speed between rounds; the ratio of medians would be 0.5.
        direct = [round_of(400), round_of(200), round_of(100)]
        mine = [round_of(200), round_of(160), round_of(80)]
        self.assertEqual(report.ratio(mine, direct, "per_second"), 0.8)

    def test_a_round_that_one_side_lacks_is_left_out(self):
        self.assertEqual(report.ratio([None, round_of(50)], [round_of(1), round_of(100)], "per_second"), 0.5)
        self.assertIsNone(report.ratio([round_of(1)], [], "per_second"))
        self.assertIsNone(report.ratio([round_of(1)], [round_of(1, cpu=None)], "cpu_us"))


class Verdicts(unittest.TestCase):
    floor, ceiling = Target("c1", "per_second", "direct", 1.0), Target("c1", "p50_us", "direct", 2.0)

    def test_floors_and_ceilings(self):
        self.assertTrue(self.floor.is_met(1.0) and self.ceiling.is_met(2.0))
        self.assertFalse(self.floor.is_met(0.99) or self.ceiling.is_met(2.01))
        self.assertFalse(self.floor.is_far_missed(0.9) or self.ceiling.is_far_missed(2.2))
        self.assertTrue(self.floor.is_far_missed(0.8) and self.ceiling.is_far_missed(2.4))

    def test_a_verdict_for_each_target_of_what_was_run(self):
        scenario = Scenario("c1", "", 1)
        results = {"c1": {"direct": [round_of(100)], "sidecar": [round_of(80, p50=30.0)]}}
        found = list(report.verdicts([self.floor, Target("c2", "p50_us", "direct", 1), self.ceiling], [scenario],
                                     results))
        self.assertEqual(found, [(self.floor, 0.8), (self.ceiling, 3.0)])
        self.assertIn("NOT MET", report.verdict_line(*found[0]))

    def test_what_was_not_measured_is_not_met(self):
        found = list(report.verdicts([self.floor], [Scenario("c1", "", 1)], {"c1": {"direct": [round_of(1)]}}))
        self.assertIn("not measured", report.verdict_line(*found[0]))


class Faults(unittest.TestCase):
    right = {"misses": 0, "wrong": 0, "errors": 0, "unanswered": 0, "broken": 0}

    def test_anything_wrong_is_named(self):
        self.assertEqual(report.faults(self.right), "")
        for kind in self.right:
            self.assertEqual(report.faults({**self.right, kind: 3}), f"3 {kind}")


class Tables(unittest.TestCase):
    def test_a_row_for_each_subject(self):
        scenario = Scenario("c1", "one", 1)
        text = report.table([scenario], {"c1": {"direct": [round_of(1000)], "sidecar": [round_of(500)],
                                                "nutcracker": [None]}})
        self.assertIn("0.50", text)
        self.assertIn("not measured", text)
        self.assertEqual(len(text.splitlines()), 5)

    def test_every_target_speaks_of_a_scenario_and_its_subjects(self):
        scenarios = {scenario.name: scenario for scenario in SCENARIOS}
        for target in TARGETS:
            self.assertIn(target.against, scenarios[target.scenario].subjects)
        for scenario in SCENARIOS:
            self.assertIn(scenario.judged, scenario.subjects)


if __name__ == "__main__":
    unittest.main()
