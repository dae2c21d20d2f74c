"""How long each page of `slipway console` takes in a real browser, until everything on it is drawn.

    python benchmarks/console.py --prometheus http://127.0.0.1:9090 --alertmanager http://127.0.0.1:9093

Starts a console and a headless Chromium beside the given Prometheus (that of `make demo`, or any other), opens every
page some times and prints the median and the worst: until the HTML was there, until all was drawn, and how many bytes
of script were loaded. Exit status 1 when a median is over a second.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("libs/serve/tests", "libs/signals/tests", "tests/alerts", "scripts")
sys.path[:0] = [str(ROOT / room) for room in ROOMS]  # the browser and the process are those of the tests

from chromium_pipe import Tab, browser  # noqa: E402
from console_world import console  # noqa: E402

from slipway_signals.dashboards.reading import load_dashboards  # noqa: E402

LIMIT_MS = 1000
READY = "!document.getElementById('grid') || document.getElementById('grid').dataset.ready"
HTML_MS = "performance.getEntriesByType('navigation')[0].responseEnd"
SCRIPT = (
    "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('.js'))"
    ".reduce((sum, one) => sum + one.decodedBodySize, 0)"
)


def main() -> int:
    """Print a row for each page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--alertmanager")
    parser.add_argument("--service", default="churn")
    parser.add_argument("--times", type=int, default=7)
    asked = parser.parse_args()
    boards = load_dashboards(ROOT / "observability" / "dashboards")
    paths = ["/", f"/alerts/SlipwaySLOFastBurn?service={asked.service}", "/runbooks", "/runbooks/SlipwaySLOFastBurn"]
    paths += [f"/dashboards/{board.uid}?var-service={asked.service}&from=now-15m" for board in boards]
    worst = 0.0
    with (
        tempfile.TemporaryDirectory() as folder,
        console(asked.prometheus, asked.alertmanager) as client,
        browser(Path(folder) / "profile") as tab,
    ):
        base = str(client.base_url).rstrip("/")
        print(f"{'page':<62}{'html':>9}{'drawn':>9}{'worst':>9}{'script':>10}")
        for path in paths:
            tries = [look(tab, f"{base}{path}") for _ in range(asked.times)]
            html, drawn = (statistics.median(one[place] for one in tries) for place in (0, 1))
            slowest = max(one[1] for one in tries)
            script = max(one[2] for one in tries) / 1000  # 0 where the browser had it already
            print(f"{path:<62}{html:>6.0f} ms{drawn:>6.0f} ms{slowest:>6.0f} ms{script:>7.1f} kB")
            worst = max(worst, drawn)
    print(f"slowest page: {worst:.0f} ms in the median, at most {LIMIT_MS} ms")
    return int(worst > LIMIT_MS)


def look(tab: Tab, url: str) -> tuple[float, float, float]:
    """Open a page: milliseconds until its HTML was there and until all was drawn, and bytes of script."""
    tab.open(url)
    tab.wait(READY)
    drawn = float(tab.run("performance.now()"))
    return float(tab.run(HTML_MS)), drawn, float(tab.run(SCRIPT))


if __name__ == "__main__":
    sys.exit(main())
