"""What a plan says below its tables: sums, what the hours rest on, and what should be known of the numbers."""

from collections import Counter
from collections.abc import Sequence

from src.config.durations import duration
from src.config.paths import command
from src.planning.hours import GUESS, LEAST, sources
from src.planning.matrix import Matrix, PlannedRun, hours, is_open
from src.planning.parts import ROUNDS

UNKNOWN = "unknown"  # a verdict that nothing predicts
_WORKLOAD = ("model", "target", "batch", "resolution", "frames", "dtype")
_MOST_NOTES = 6  # on what is predicted, or why nothing is
_SAYS = {
    "the same": "earlier runs of the same",
    LEAST: "what their products take at least: no earlier run of the kind says how long they take",
    GUESS: "a guess from measure.budget_s, for lack of earlier runs",
}


def closing_lines(matrix: Matrix, most: int) -> list[str]:
    """Sums, what the hours rest on, and what should be known of the numbers."""
    sent = [run for run in matrix.runs if not run.fate.is_skipped]
    sent_s = sum(run.seconds for run in sent)
    open_ = is_open(sent)
    of_it = (
        f", {matrix.parts_s().get(ROUNDS, 0.0) / sent_s:.0%} of them rounds" if sent_s and not open_ else ""
    )
    took = f"{'at least ' * open_}{hours(sent):.2f} device hours in all{of_it}"
    how = "at least" if open_ else "about"
    lines = [f"{took}, {_at_once(matrix)}: {how} {duration(matrix.wall_s())}"]
    told = sources(run.estimate for run in sent)
    words = [
        f"{number} by {_SAYS.get(source, f'earlier runs of {source}')}" for source, number in told.items()
    ]
    lines += [f"time: {', '.join(words)}"] if words else []
    lines += _predicted(sent)
    absent = [group.gpu for group in matrix.groups if not group.card.here and group.card.device]
    if absent and not matrix.launch.elsewhere:
        names = ", ".join(dict.fromkeys(absent))
        lines.append(
            f"gpu={names}: not on this machine; launched here its runs would only be recorded as unsupported"
        )
    lines += _troubles(sent)
    if any(runs[1:] for _, runs in matrix.rows(most)):
        lines.append("plan=all gives every run a row of its own")
    return lines


def _troubles(runs: Sequence[PlannedRun]) -> list[str]:
    """Models of which less than all is known, and why, those with the same trouble in one line."""
    troubles: dict[tuple[bool, str], list[PlannedRun]] = {}
    for run in runs:
        if run.memory and run.memory.trouble:
            troubles.setdefault((run.memory.built, run.memory.trouble), []).append(run)
    known = {
        True: "weights alone, its forward could not be followed",
        False: "unknown, it cannot be built here",
    }
    return [f"memory of {_names(those)}: {known[built]}: {why}" for (built, why), those in troubles.items()]


def _predicted(runs: Sequence[PlannedRun]) -> list[str]:
    """What the promises rest on, and why there are none, each once."""
    told = [run.promise for run in runs if run.promise]
    why = Counter(note for each in told for note in each.reasons)
    unknown = all(each.verdict == UNKNOWN for each in told)
    how = "speedup: nothing is predicted" if unknown else "predicted"
    lines = [f"{how} of {count}: {note}" for note, count in why.most_common(_MOST_NOTES)]
    predict = command("analyze", "predict=model")
    if left := len(why) - len(lines):
        lines.append(f"{left} more of these notes: {predict} says all of a model's")
    basis = f"predicted: from single layers that were measured, with intervals of 90 %; {predict} says more"
    return lines if unknown else [basis, *lines]


def _at_once(matrix: Matrix) -> str:
    at_once = matrix.launch.at_once
    if not matrix.launch.elsewhere:
        return "one run after another" if at_once == 1 else f"{at_once or 'all'} at once"
    return f"{at_once or 'all'} at once of each GPU, if the cluster has them free"


def _names(runs: Sequence[PlannedRun]) -> str:
    """The first run's workload, and how many other runs there are."""
    others = f" and {len(runs) - 1} more" if runs[1:] else ""
    words = [f"{name}={value}" for name, value in runs[0].axes.items() if name in _WORKLOAD]
    return " ".join(words) + others
