"""A small SVG writer for the studies' plots: log-scaled panels with points, intervals and lines."""
import math
from xml.sax.saxutils import escape

INK, MUTED, GRID = "#1f2328", "#57606a", "#e4e7eb"
COLORS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781"]
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif'"


class Canvas:
    def __init__(self, width, height):
        self.width, self.height, self.parts = width, height, []

    def add(self, tag, text=None, **attributes):
        pairs = " ".join(f"{k.replace('_', '-')}='{f'{v:.2f}' if isinstance(v, float) else v}'"
                         for k, v in attributes.items() if v is not None)
        self.parts.append(f"<{tag} {pairs}/>" if text is None else f"<{tag} {pairs}>{escape(str(text))}</{tag}>")

    def text(self, x, y, text, size=12, fill=INK, anchor="start", weight=None, rotate=None):
        self.add("text", text, x=float(x), y=float(y), font_size=size, fill=fill, text_anchor=anchor, font_weight=weight,
                 transform=f"rotate({rotate} {x:.1f} {y:.1f})" if rotate else None)

    def line(self, x1, y1, x2, y2, stroke=GRID, width=1, dash=None):
        self.add("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), stroke=stroke, stroke_width=width,
                 stroke_dasharray=dash)

    def marker(self, x, y, color, hollow=False, size=4.2):
        self.add("circle", cx=float(x), cy=float(y), r=size, fill="#ffffff" if hollow else color, stroke=color,
                 stroke_width=1.6)

    def polyline(self, points, color, dash=None):
        self.add("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), fill="none", stroke=color,
                 stroke_width=1.8, stroke_dasharray=dash, stroke_linejoin="round")

    def document(self):
        head = (f"<svg xmlns='http://www.w3.org/2000/svg' width='{self.width}' height='{self.height}' "
                f"viewBox='0 0 {self.width} {self.height}' {FONT}>")
        return "\n".join([head, f"<rect width='{self.width}' height='{self.height}' fill='#ffffff'/>", *self.parts,
                          "</svg>\n"])


class LogScale:
    """Positions of positive values between two pixels; `ticks` are 1, 2 and 5 times powers of ten."""

    def __init__(self, values, begin, end):
        low, high = min(values), max(values)
        ticks = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5)]
        self.low = max(t for t in ticks if t <= low)
        self.high = min(t for t in ticks if t >= high and t > self.low)
        self.begin, self.end = begin, end
        self.ticks = [t for t in ticks if self.low <= t <= self.high]
        if len(self.ticks) > 12:
            self.ticks = [t for t in self.ticks if math.log10(t).is_integer()]

    def __call__(self, value):
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)


def percent_label(value):
    return f"{value:g} %"


def curves(title, subtitle, panels, x_label, y_label):
    """panels: [(name, [(label, color index, dashed, [(x in 0…1, y, low, high)])])]; x is a share, y percent on a log
    axis shared by the panels."""
    width, height, left, top, bottom, gap = 940, 450, 64, 116, 58, 22
    canvas = Canvas(width, height)
    canvas.text(left - 44, 28, title, 16, weight=600)
    canvas.text(left - 44, 48, subtitle, 12, MUTED)
    values = [v for _, lines in panels for *_, points in lines for _, y, low, high in points for v in (y, low, high) if v > 0]
    panel_width = (width - left - 20 - gap * (len(panels) - 1)) / max(1, len(panels))
    y_of = LogScale(values or [1, 10], height - bottom, top)
    legend = {}
    for i, (name, lines) in enumerate(panels):
        x0 = left + i * (panel_width + gap)
        x_of = lambda share, x0=x0: x0 + 10 + share * (panel_width - 20)
        for tick in y_of.ticks:
            canvas.line(x0, y_of(tick), x0 + panel_width, y_of(tick))
            if i == 0:
                canvas.text(x0 - 8, y_of(tick) + 4, percent_label(tick), 11, MUTED, "end")
        for share in (0, 0.25, 0.5, 0.75, 1):
            canvas.text(x_of(share), height - bottom + 18, f"{share:g}", 11, MUTED, "middle")
            canvas.line(x_of(share), height - bottom, x_of(share), height - bottom + 4, MUTED)
        canvas.line(x0, height - bottom, x0 + panel_width, height - bottom, MUTED)
        canvas.text(x0, top - 10, name, 13, weight=600)
        for label, color_idx, dashed, points in lines:
            color, dash = COLORS[color_idx], "5 4" if dashed else None
            legend[label] = (color, dashed)
            canvas.polyline([(x_of(x), y_of(y)) for x, y, _, _ in points], color, dash)
            for x, y, low, high in points:
                canvas.line(x_of(x), y_of(max(low, y_of.low)), x_of(x), y_of(max(high, y_of.low)), color, 1.4)
                canvas.marker(x_of(x), y_of(y), color, hollow=dashed)
    x = left
    for label, (color, dashed) in legend.items():
        canvas.line(x, 74, x + 24, 74, color, 1.8, "5 4" if dashed else None)
        canvas.marker(x + 12, 74, color, hollow=dashed)
        canvas.text(x + 30, 78, label, 12)
        x += 110
    canvas.text(left + (width - left - 20) / 2, height - 14, x_label, 12, MUTED, "middle")
    canvas.text(16, top + (height - top - bottom) / 2, y_label, 12, MUTED, "middle", rotate=-90)
    return canvas.document()


def dots(title, subtitle, series, rows, x_label):
    """rows: [(name, {series: (value, low, high)})] in percent on a log axis; series: [name]. What lies beyond `limits`
    stands at the edge, with its value beside it where it is above."""
    limits = (0.5, 500.0)
    left, top, bottom, step = 168, 96, 52, 38
    width, height = 940, top + step * len(rows) + bottom
    canvas = Canvas(width, height)
    canvas.text(20, 28, title, 16, weight=600)
    canvas.text(20, 48, subtitle, 12, MUTED)
    values = [v for _, points in rows for triple in points.values() for v in triple]
    x_of = LogScale([min(max(v, limits[0]), limits[1]) for v in values] or limits, left, width - 36)
    for tick in x_of.ticks:
        canvas.line(x_of(tick), top - 8, x_of(tick), height - bottom)
        canvas.text(x_of(tick), height - bottom + 18, percent_label(tick), 11, MUTED, "middle")
    for i, (name, points) in enumerate(rows):
        y = top + step * i + step / 2
        canvas.text(left - 12, y + 4, name, 12, anchor="end")
        canvas.line(left, top + step * (i + 1), width - 36, top + step * (i + 1))
        for j, label in enumerate(series):
            if label not in points:
                continue
            value, low, high = points[label]
            at = y + (j - (len(series) - 1) / 2) * 8
            canvas.line(x_of(max(low, x_of.low)), at, x_of(max(high, x_of.low)), at, COLORS[j], 1.6)
            canvas.marker(x_of(max(value, x_of.low)), at, COLORS[j], size=3.4)
            if value > x_of.high:
                canvas.text(x_of.end - 8, at + 3.5, f"{value:,.0f} % \u2192", 10, COLORS[j], "end")
    x = left
    for j, label in enumerate(series):
        canvas.marker(x + 5, top - 26, COLORS[j])
        canvas.text(x + 16, top - 22, label, 12)
        x += 40 + 7.2 * len(label)
    canvas.text((left + width - 36) / 2, height - 12, x_label, 12, MUTED, "middle")
    return canvas.document()
