"""What runs cost: estimated from those that are finished, by the images that they read."""

import statistics

from tfmdl.campaign.plan import PlannedRun

START_SECONDS = 20.0  # imports, tracing and the files at the end, before and after the images


class Costs:
    """Rates of training by method, learned from finished runs; a method without any goes by all others on images.

    Args:
        runs: Of the campaign; those that are finished teach.
    """

    def __init__(self, runs: list[PlannedRun]):
        self._rates: dict[str, list[float]] = {}
        self._rates_on_images: list[float] = []
        for run in runs:
            if run.finished:
                self.learn(run)

    def learn(self, run: PlannedRun) -> None:
        """Takes the rate of a finished run into account."""
        rates = [line["images_per_second"] for line in run.metrics()]
        if rates:
            rate = statistics.median(rates)
            self._rates.setdefault(run.method, []).append(rate)
            if not run.on_features:
                self._rates_on_images.append(rate)

    def seconds(self, runs: list[PlannedRun]) -> float | None:
        """Returns how long `runs` take one after the other, or None before a finished run tells of each."""
        rate_of = {method: statistics.median(rates) for method, rates in self._rates.items()}
        typical = statistics.median(self._rates_on_images) if self._rates_on_images else None
        rates = [rate_of.get(run.method, typical) for run in runs]
        if not rate_of or None in rates:
            return None
        return sum(START_SECONDS + run.images / rate for run, rate in zip(runs, rates, strict=True))


def duration(seconds: float) -> str:
    """Returns seconds as people say them: 48 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
