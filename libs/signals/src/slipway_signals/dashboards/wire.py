"""The form of a dashboard's file: the fields of Grafana's JSON that `reading` needs, by their own names.

Other programs write these files, too: unknown fields are left alone, and what may be missing has a default.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct, field

__all__ = ["FOLDER", "File", "Panel", "Target", "Thresholds", "Variable"]


FOLDER: Final = Path("observability", "dashboards")
"""In a repository: where the files are."""


class Wire(Struct, frozen=True, rename="camel"):
    """What is in the file; unknown fields are left alone."""


class Step(Wire, frozen=True):
    color: str
    value: float | None = None


class Thresholds(Wire, frozen=True):
    """Colours of values."""

    steps: tuple[Step, ...] = ()


class Stacking(Wire, frozen=True):
    mode: str = "none"


class Custom(Wire, frozen=True):
    stacking: Stacking = Stacking()


class Word(Wire, frozen=True):
    text: str = ""


class Mapping(Wire, frozen=True):
    options: dict[str, Word] = field(default_factory=dict)


class Defaults(Wire, frozen=True):
    unit: str = ""
    decimals: float | None = None
    min: float | None = None
    max: float | None = None
    no_value: str = ""
    thresholds: Thresholds = Thresholds()
    custom: Custom = Custom()
    mappings: tuple[Mapping, ...] = ()


BY_QUERY: Final = "byFrameRefID"
"""Of an override: the series of one query."""


class Matcher(Wire, frozen=True):
    id: str = ""
    options: str = ""


class Property(Wire, frozen=True):
    id: str
    value: object = None


class Override(Wire, frozen=True):
    matcher: Matcher = Matcher()
    properties: tuple[Property, ...] = ()


class FieldConfig(Wire, frozen=True):
    defaults: Defaults = Defaults()
    overrides: tuple[Override, ...] = ()


class Target(Wire, frozen=True):
    """A query."""

    ref_id: str
    expr: str
    legend_format: str = ""
    instant: bool = False
    exemplar: bool = False


class Organize(Wire, frozen=True):
    index_by_name: dict[str, int] = field(default_factory=dict)
    rename_by_name: dict[str, str] = field(default_factory=dict)


class Transformation(Wire, frozen=True):
    id: str
    options: Organize = Organize()


class Options(Wire, frozen=True):
    content: str = ""


class Link(Wire, frozen=True):
    title: str = ""
    url: str = ""


class Grid(Wire, frozen=True):
    x: int = 0
    y: int = 0
    w: int = 24
    h: int = 8


class Panel(Wire, frozen=True):
    """A panel of any kind."""

    type: str
    id: int = 0
    title: str = ""
    description: str = ""
    targets: tuple[Target, ...] = ()
    grid_pos: Grid = Grid()
    field_config: FieldConfig = FieldConfig()
    transformations: tuple[Transformation, ...] = ()
    options: Options = Options()
    links: tuple[Link, ...] = ()


class Query(Wire, frozen=True):
    query: str = ""


class Variable(Wire, frozen=True):
    """A choice of the reader; `query` in one of its two forms."""

    type: str
    name: str
    label: str | None = None
    query: str | Query = ""
    multi: bool = False


class Templating(Wire, frozen=True):
    list: tuple[Variable, ...] = ()


class Annotation(Wire, frozen=True):
    name: str
    expr: str = ""
    title_format: str = ""
    icon_color: str = "blue"


class Annotations(Wire, frozen=True):
    list: tuple[Annotation, ...] = ()


class Time(Struct, frozen=True):
    start: str = field(default="now-1h", name="from")


class File(Wire, frozen=True):
    """The whole file."""

    uid: str
    title: str
    description: str = ""
    templating: Templating = Templating()
    panels: tuple[Panel, ...] = ()
    annotations: Annotations = Annotations()
    links: tuple[Link, ...] = ()
    time: Time = Time()
