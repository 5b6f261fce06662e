"""Medians, ratios, the table and the verdicts: plain values in, plain text out."""

from statistics import median

FIGURES = ("per_second", "p50_us", "p99_us", "p999_us", "cpu_us", "peer_us", "store_us", "own_us",
           "drain_ms")


def figures(result):
    """The figures of one run of the generator, as flat numbers."""
    cpu = result["cpu_us"]
    return {
        "per_second": result["per_second"], "p50_us": result["p50_us"], "p99_us": result["p99_us"],
        "p999_us": result["p999_us"], "cpu_us": cpu.get("proxy"), "peer_us": cpu.get("peer"),
        "store_us": cpu.get("store"), "own_us": result["own_cpu_us"],
    }


def faults(result):
    """What went wrong in a run, in words; empty when every reply was right."""
    kinds = ("misses", "wrong", "errors", "unanswered", "broken")
    return ", ".join(f"{result[kind]} {kind}" for kind in kinds if result[kind])


def medians(rounds):
    """`rounds` of one subject: figures by name → the median of each figure."""
    found = {}
    for figure in FIGURES:
        values = [one[figure] for one in rounds if one and one.get(figure) is not None]
        found[figure] = median(values) if values else None
    return found


def ratio(rounds, other_rounds, figure):
    """The median of the ratios taken inside each round: neighbours in time share the machine's mood."""
    ratios = [
        mine[figure] / theirs[figure] for mine, theirs in zip(rounds, other_rounds)
        if mine and theirs and mine[figure] is not None and theirs[figure]
    ]
    return median(ratios) if ratios else None


def table(scenarios, results):
    """`results`: scenario name → subject name → list of figures, one for each round (None: not measured)."""
    lines = [f"{'':30}{'requests/s':>11}{'x direct':>9}{'x nutcr.':>9}{'p50 us':>9}{'x dir.':>7}"
             f"{'p99 us':>9}{'x dir.':>7}{'p99.9':>9}{'CPU us':>8}{'x nutcr.':>9}{'peer':>6}{'store':>7}{'own':>6}"
             f"{'drain ms':>9}"]
    for scenario in scenarios:
        subjects = results.get(scenario.name)
        if not subjects:
            continue
        lines.append(f"{scenario.name}: {scenario.says}")
        for name, rounds in subjects.items():
            lines.append(_row(name, rounds, subjects))
    return "\n".join(lines)


def _row(name, rounds, subjects):
    mine = medians(rounds)
    if mine["per_second"] is None:
        return f"  {name:28}{'not measured':>11}"

    def against(other, figure):
        return None if name == other else ratio(rounds, subjects.get(other, []), figure)

    return (f"  {name:28}{mine['per_second']:>11,.0f}{_times(against('direct', 'per_second')):>9}"
            f"{_times(against('nutcracker', 'per_second')):>9}"
            f"{mine['p50_us']:>9.1f}{_times(against('direct', 'p50_us')):>7}"
            f"{mine['p99_us']:>9.0f}{_times(against('direct', 'p99_us')):>7}{mine['p999_us']:>9.0f}"
            f"{_us(mine['cpu_us']):>8}{_times(against('nutcracker', 'cpu_us')):>9}{_us(mine['peer_us']):>6}"
            f"{_us(mine['store_us']):>7}{_us(mine['own_us']):>6}{_us(mine['drain_ms']):>9}")


def verdicts(targets, scenarios, results):
    """For each target whose scenario was run: (target, value or None)."""
    judged = {scenario.name: scenario.judged for scenario in scenarios}
    for target in targets:
        subjects = results.get(target.scenario)
        if subjects is None:
            continue
        yield target, ratio(subjects.get(judged[target.scenario], []), subjects.get(target.against, []), target.figure)


def verdict_line(target, value):
    if value is None:
        return f"  not measured  {target.scenario:9} {target.words()}"
    word = "met" if target.is_met(value) else "NOT MET"
    return f"  {word:12}  {target.scenario:9} {target.words():34} {value:6.2f}"


def _times(value):
    return "" if value is None else f"{value:.2f}"


def _us(value):
    return "" if value is None else f"{value:.1f}"
