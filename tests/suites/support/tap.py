"""Perl's test output (TAP), reduced to what a comparison needs."""

import re

LINE = re.compile(r"^(not ok|ok)\b\s*(\d+)?(.*)$")
PLAN = re.compile(r"^1\.\.(\d+)(.*)$")


class Result:
    """The outcome of one test file: which assertions failed, how many ran, and whether it came to its end."""

    def __init__(self, output, status):
        self.failed, self.ran, planned = [], 0, None
        self.skipped = None
        for line in output.splitlines():
            if match := LINE.match(line):
                self.ran += 1
                if match[1] == "not ok" and "# TODO" not in match[3]:
                    self.failed.append(int(match[2] or self.ran))
            elif match := PLAN.match(line):
                planned = int(match[1])
                if not planned and "skip" in match[2].lower():
                    self.skipped = match[2].strip(" #").partition(" ")[2]
        self.complete = planned is not None and planned == self.ran
        self.ok = self.complete and not self.failed and status == 0

    def __str__(self):
        if self.skipped is not None:
            return "skipped"
        if self.ok:
            return "ok"
        end = "" if self.complete else " incomplete"
        return "failed " + ",".join(map(str, self.failed[:20] or ["-"])) + end
