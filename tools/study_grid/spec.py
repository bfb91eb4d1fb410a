"""The spec of a grid study (studies/<name>/spec.json): which rows there are and what must hold of them."""
import dataclasses
import itertools
import json


@dataclasses.dataclass
class Row:
    name: str
    model: str  # a key of the spec's models
    axes: dict = dataclasses.field(default_factory=dict)  # axis to value; empty outside the grid
    quantize: list | None = None  # flags of comet quantize; None: the model itself
    kv_cache: dict | None = None  # comet_kv_cache of a dense row's config.json
    eval: list = dataclasses.field(default_factory=list)  # flags of comet eval

    @property
    def id(self):
        return f"{self.model}/{self.name}"

    @property
    def file_name(self):
        return self.id.replace("/", "--").replace(" ", "_") + ".json"


class Spec:
    def __init__(self, path):
        self.path = path
        self.json = json.loads(path.read_text())
        self.models = self.json["models"]
        self.grid = self.json.get("grid")
        self.rows = [row for entry in self.json["rows"] for row in self._named_rows(entry)] + self._grid_rows()
        ids = [row.id for row in self.rows]
        if len(set(ids)) != len(ids):
            raise SystemExit(f"{path}: two rows of one name: {sorted(i for i in ids if ids.count(i) > 1)[0]}")

    def _named_rows(self, entry):
        for model in entry["models"]:
            if model not in self.models:
                raise SystemExit(f"{self.path}: row {entry['name']}: no model '{model}'")
            yield Row(entry["name"], model, {}, entry.get("quantize"), entry.get("kv_cache"), entry.get("eval", []))

    def grid_name(self, axes):
        """The row that stands for these values; a duplicate is named by the row it equals."""
        for rule in self.grid.get("same", []):
            if all(axes[axis] == value for axis, value in rule["when"].items()):
                axes = {**axes, **rule["as"]}
        return " ".join(axes[axis] for axis in self.grid["axes"])

    def grid_points(self):
        """Every combination of the axes, duplicates included."""
        axes = self.grid["axes"]
        return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]

    def _grid_rows(self):
        if not self.grid:
            return []
        rows = []
        for axes in self.grid_points():
            name = " ".join(axes.values())
            if self.grid_name(axes) != name:
                continue
            flags = [flag for axis, value in axes.items() for flag in self.grid["axes"][axis][value]]
            rows.append(Row(name, self.grid["model"], axes, self.grid["flags"] + flags))
        return rows

    def base_of(self, row_or_model):
        """The id of the row that losses are counted from."""
        return f"{getattr(row_or_model, 'model', row_or_model)}/{self.json['base']}"
