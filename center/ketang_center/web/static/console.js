// The live mark in the header, and the occupancy curve. Everything else is plain links and forms.
"use strict";

const FEW = "few";

function pulse(on) {
  const mark = document.getElementById("pulse");
  if (!mark) return;
  mark.className = "pulse " + (on ? "on" : "off");
  mark.textContent = on ? mark.dataset.on : mark.dataset.off;
}
document.addEventListener("htmx:sseOpen", () => pulse(true));
document.addEventListener("htmx:sseError", () => pulse(false));
document.addEventListener("htmx:sendError", () => pulse(false));

const word = (one, few) => (one === null || one === undefined ? "—" : one === FEW ? few : String(one));

// The axis is broken below 5: FEW has a zone of its own there, and is drawn, never computed with.
function axisOf(peak) {
  const zone = Math.max(5, peak * 0.2);
  const place = (one) => (one === null || one === undefined ? null : one === 0 ? 0 : one - 5 + zone);
  return {
    zone, top: place(peak) * 1.05,
    low: (one) => (one === FEW ? zone * 0.25 : place(one)),
    high: (one) => (one === FEW ? zone * 0.7 : place(one)),
    ticks() {
      const step = peak > 40 ? 20 : peak > 20 ? 10 : 5, found = [[0, "0"], [zone * 0.475, "<5"]];
      for (let count = step; count <= peak; count += step) found.push([place(count), String(count)]);
      return found;
    },
  };
}

function drawCurve(box) {
  const data = JSON.parse(box.dataset.curve), few = box.dataset.few;
  // A window has two points, its first and its last second: one alone among gaps is drawn as well.
  const at = Array.from({ length: 2 * data.cells }, (_, i) => data.start_s + (i >> 1) * data.cell_s + (i % 2) * (data.cell_s - 1));
  const twice = (values) => values.flatMap((one) => [one, one]);
  const local = (s) => uPlot.tzDate(new Date(s * 1e3), "Asia/Shanghai"), clock = uPlot.fmtDate("{HH}:{mm}");
  const y = axisOf(Math.max(10, ...data.p90.filter((one) => one !== FEW && one !== null)));
  const steps = uPlot.paths.stepped({ align: 1 }), ticks = y.ticks();
  const shade = (u) => {
    const top = u.valToPos(y.zone * 0.82, "y", true), bottom = u.valToPos(y.zone * 0.13, "y", true);
    u.ctx.save();
    u.ctx.fillStyle = "#eef1f3";
    u.ctx.fillRect(u.bbox.left, top, u.bbox.width, bottom - top);
    u.ctx.restore();
  };
  const shown = (values) => (_, __, ___, i) => word(i === null || i === undefined ? null : values[i >> 1], few);
  const ink = "#55646f", font = "12px system-ui, sans-serif";
  box.textContent = "";
  const plot = new uPlot({
    width: box.clientWidth, height: 210, tzDate: local,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { range: [data.start_s, data.start_s + data.cells * data.cell_s] }, y: { range: [0, y.top] } },
    hooks: { drawClear: [shade] },
    bands: [{ series: [2, 1], fill: "rgba(47,111,183,.25)" }],
    series: [
      { label: box.dataset.time, value: (_, __, ___, i) => (i === null || i === undefined ? "—" : clock(local(at[i - (i % 2)]))) },
      { label: box.dataset.median, stroke: "#0a5a78", width: 2, paths: steps, points: { show: false }, value: shown(data.median) },
      { label: box.dataset.p90, stroke: "#7ba6d4", width: 1, paths: steps, points: { show: false }, value: shown(data.p90) },
    ],
    axes: [
      { stroke: ink, font, grid: { stroke: "#e9edf0" }, values: [[3600, "{HH}:00", null, null, null, null, null, null, 1]],
        incrs: [3600, 7200, 10800, 21600] },
      { stroke: ink, font, size: 44, grid: { stroke: "#e9edf0" }, splits: () => ticks.map((one) => one[0]),
        values: () => ticks.map((one) => one[1]) },
    ],
  }, [at, twice(data.median.map(y.low)), twice(data.p90.map(y.high))], box);
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 210 })).observe(box);
}

function drawCurves(root) {
  root.querySelectorAll("[data-curve]:not([data-drawn])").forEach((box) => {
    box.dataset.drawn = "1";
    drawCurve(box);
  });
}
document.addEventListener("DOMContentLoaded", () => drawCurves(document));
document.addEventListener("htmx:afterSettle", () => drawCurves(document));
