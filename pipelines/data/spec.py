"""What a toy scene is: names, and frozen pure data that round-trips through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

CLUSTERS: dict[str, tuple[str, ...]] = {
    "hoofed": ("horse", "zebra", "cow", "sheep"),
    "pets": ("cat", "dog", "rabbit", "bear"),
    "fruit": ("apple", "orange", "pear", "lemon"),
    "vehicles": ("car", "bus", "truck", "train"),
    "buildings": ("house", "castle", "lighthouse", "tent"),
    "plants": ("tree", "pine", "cactus", "mushroom"),
}
CLASSES = tuple(name for names in CLUSTERS.values() for name in names)
CLUSTER_OF = {name: cluster for cluster, names in CLUSTERS.items() for name in names}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
PATTERNS = ("plain", "striped", "dotted")
PLACES = (
    "on the grass",
    "on the beach",
    "in the snow",
    "in the desert",
    "at night",
    "in a room",
    "on the street",
    "on the moon",
)
RELATIONS = ("beside", "in front of", "on", "under")
WORDS = (*CLASSES, *RELATIONS, *COLOURS, *PATTERNS[1:], *PLACES)
NATURAL_ONLY = ("zebra",)  # classes that take neither colour nor pattern


@dataclass(frozen=True)
class Thing:
    """One toy. Everything but class, colour and pattern means the same for every class."""

    class_name: str
    colour: str | None  # None: the natural colour, which captions do not name
    pattern: str
    x: float  # toy units, rightwards
    y: float  # height of its base above the ground
    z: float  # away from the viewer
    turn: float  # radians from the class's best view
    facing: int  # 1 looks right, -1 looks left (mirror image)
    size: float  # 1 covers about 5 % of the picture at z = 0
    seed: int  # shape and colour jitter

    def __post_init__(self) -> None:
        """Raise ValueError for names outside the world."""
        if self.class_name not in CLUSTER_OF:
            raise ValueError(f"class must be one of {CLASSES}, got {self.class_name!r}")
        if self.colour is not None and self.colour not in COLOURS:
            raise ValueError(f"colour must be None or one of {COLOURS}, got {self.colour!r}")
        if self.pattern not in PATTERNS:
            raise ValueError(f"pattern must be one of {PATTERNS}, got {self.pattern!r}")
        if self.class_name in NATURAL_ONLY and (self.colour or self.pattern != "plain"):
            raise ValueError(f"a {self.class_name} takes neither colour nor pattern")


@dataclass(frozen=True)
class Camera:
    """Eye height in toy units and downward pitch in radians."""

    height: float
    pitch: float


@dataclass(frozen=True)
class Light:
    """Direction to the sun (x right, y up; z is fixed) and strength (1 = ordinary)."""

    x: float
    y: float
    strength: float


@dataclass(frozen=True)
class Scene:
    """A picture's full description; equal scenes render to equal bytes.

    A relation holds between things[0] (the subject) and things[1]; None joins with "and".
    """

    place: str
    things: tuple[Thing, ...]
    relation: str | None
    camera: Camera
    light: Light
    backdrop: float  # in [0, 10): moves clouds, hills, windows

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown place or relation."""
        if self.place not in PLACES:
            raise ValueError(f"place must be one of {PLACES}, got {self.place!r}")
        if self.relation is not None and self.relation not in RELATIONS:
            raise ValueError(f"relation must be None or one of {RELATIONS}, got {self.relation!r}")
        if self.relation is not None and len(self.things) < 2:
            raise ValueError(f"relation {self.relation!r} needs two things")

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> Scene:
        """Return the scene that `to_dict` wrote."""
        return cls(
            place=data["place"],
            things=tuple(Thing(**thing) for thing in data["things"]),
            relation=data["relation"],
            camera=Camera(**data["camera"]),
            light=Light(**data["light"]),
            backdrop=data["backdrop"],
        )
