"""Writes a drift report in a process of its own: our page, and Evidently's beside it.

    python -m slipway_signals.drift_report --profile reference.json --current captured/ --out report/

The only module that imports evidently and pandas, and only when there is a reference table: the import takes seconds
and hundreds of megabytes, so no serving process and no other verb may. The invariants: it never calls home
(DO_NOT_TRACK is set before evidently is imported); a report appears whole or not at all.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from slipway_bundle.errors import HostError, SlipwayError
from slipway_signals.drift.building import Column, TableError
from slipway_signals.drift.comparison import compare
from slipway_signals.drift.page import render_page
from slipway_signals.drift.profile import Numeric, Profile, load_profile
from slipway_signals.drift.tables import read_table

__all__ = ["EvidentlyError", "main", "read_captured", "run_evidently"]

PREFIXES: Final = ("features.", "prediction.")
"""Before the names of columns in captured parts."""

PAGE, EVIDENTLY, FIGURES = "index.html", "evidently.html", "drift.json"


class EvidentlyError(HostError):
    """Evidently is not installed here, or is a version that does not fit."""

    code = "evidently_missing"


def main(arguments: Sequence[str]) -> int:
    """Runs one command line; prints the page's path, or one JSON object about the error; gives the exit status."""
    options = _options(arguments)
    try:
        page = write_report(
            load_profile(options.profile),
            read_captured(options.current),
            options.out,
            title=options.title,
            when=options.when or options.current.name,
            reference=None if options.reference is None else read_table(options.reference),
        )
    except SlipwayError as error:
        sys.stderr.buffer.write(msgspec.json.encode({"error": error.as_dict()}) + b"\n")
        return error.exit_status
    sys.stdout.write(f"{page}\n")
    return 0


def write_report(
    profile: Profile,
    current: Mapping[str, Column],
    out: Path,
    *,
    title: str | None = None,
    when: str = "current",
    reference: Mapping[str, Column] | None = None,
) -> Path:
    """Writes `index.html`, `drift.json` and, with a reference table, `evidently.html` into the folder `out`.

    Raises:
        TableError: A table has none of the profile's columns, or values that are not theirs.
        EvidentlyError: There is a reference table, and Evidently cannot be imported.
    """
    found = compare(profile, current)
    if not found.features and found.prediction is None:
        raise TableError(
            f"the captured table has none of the columns of model {profile.model!r}: "
            f"got {', '.join(sorted(current)) or 'none'}, "
            f"expected some of {', '.join(feature.name for feature in profile.features)}"
        )
    out.mkdir(parents=True, exist_ok=True)
    if reference is not None:
        run_evidently(profile, reference, current, out / EVIDENTLY)
    else:
        (out / EVIDENTLY).unlink(missing_ok=True)
    _put(out / FIGURES, msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    heading = title or f"Drift of {profile.model}"
    page = render_page(found, title=heading, when=when, evidently=None if reference is None else EVIDENTLY)
    _put(out / PAGE, page.encode())
    return out / PAGE


def read_captured(path: Path) -> dict[str, Column]:
    """Columns of a table, or of every Parquet part under a folder.

    Of captured parts only the sampled rows are taken, and of those the answered ones: errors are always captured, so
    with them the rows would not be those that were served. `features.` and `prediction.` are taken off the names.

    Raises:
        TableError: There is no part in the folder, or its parts have no column in common.
    """
    if not path.is_dir():
        return _served(read_table(path))
    parts = [_served(read_table(part)) for part in sorted(path.rglob("*.parquet"))]
    if not parts:
        raise TableError(f"no Parquet part is in {str(path)!r}", hint="is it the folder that capture writes to?")
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: [value for part in parts for value in part[name]] for name in names}


def run_evidently(
    profile: Profile, reference: Mapping[str, Column], current: Mapping[str, Column], page: Path
) -> dict[str, float]:
    """Evidently's own drift report as a page; gives its PSI by column.

    Raises:
        EvidentlyError: It cannot be imported.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    features = [*profile.features, *([profile.prediction.feature] if profile.prediction else [])]
    numbers = [
        one.name for one in features if isinstance(one, Numeric) and one.name in reference and one.name in current
    ]
    words = [
        one.name for one in features if not isinstance(one, Numeric) and one.name in reference and one.name in current
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pandas as pd  # type: ignore[import-untyped]  # no types here
            from evidently import DataDefinition, Dataset, Report  # type: ignore[import-untyped]  # it ships no types
            from evidently.presets import DataDriftPreset  # type: ignore[import-untyped]  # it ships no types
    except ImportError as error:
        raise EvidentlyError(
            f"Evidently cannot be imported: {error}",
            hint="install `slipway-signals[drift-report]` where reports are made, or leave the reference table out",
        ) from error
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)

    def dataset(table: Mapping[str, Column]) -> Any:
        frame = pd.DataFrame({name: table[name] for name in (*numbers, *words)})
        frame = frame.astype(dict.fromkeys(numbers, float) | dict.fromkeys(words, str))
        return Dataset.from_pandas(frame, data_definition=definition)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        report = Report([DataDriftPreset(num_method="psi", cat_method="psi")])
        snapshot = report.run(dataset(current), dataset(reference))
        draft = page.with_name(f".{os.getpid()}-{page.name}")
        snapshot.save_html(str(draft))
    draft.replace(page)
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric.get("config", {})
    }


def _served(table: Mapping[str, Column]) -> dict[str, Column]:
    """Sampled and answered rows of a captured part; any other table as it is."""
    keep = None
    if "kept" in table and "status" in table:
        rows = zip(table["kept"], table["status"], strict=True)
        keep = [kept == "sample" and status < 400 for kept, status in rows]
    columns: dict[str, Column] = {}
    for name, column in table.items():
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        columns[short] = (
            column if keep is None else [value for value, is_kept in zip(column, keep, strict=True) if is_kept]
        )
    return columns


def _put(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    draft.write_bytes(data)
    draft.replace(path)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m slipway_signals.drift_report")
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--current", type=Path, required=True)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--title")
    parser.add_argument("--when")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
