"use strict";

// --- tables that a reader sorts and filters

const makeSortable = (box) => {
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("thead th")];
  const rows = [...body.rows];
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.n === undefined ? cell.textContent : Number(cell.dataset.n);
  };
  // What is missing is last, in both directions.
  const compare = (one, other, sign) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    const numbers = typeof one === "number" && typeof other === "number";
    return sign * (numbers ? one - other : String(one).localeCompare(String(other), "en", { numeric: true }));
  };
  const sort = (column, direction) => {
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, key(row, column)]));
    rows.sort((one, other) => compare(keys.get(one), keys.get(other), sign));
    body.append(...rows);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sort(column, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    });
    head.append(button);
  });

  const input = box.querySelector("input");
  const status = box.querySelector("[role=status]");
  const filter = () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !wanted.every((word) => text.get(row).includes(word));
      shown += !row.hidden;
    }
    status.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  };
  input.addEventListener("input", filter);
  filter();
  box.querySelector(".controls").hidden = false;
  return { sort, filter };
};

// --- plots

const PRINTED = { single: 660, double: 330, lower: 0.7 };
const panels = new WeakMap();
const swatches = new WeakMap();

// The colours of the page: those of Python's figures are for white paper.
const night = matchMedia("(prefers-color-scheme: dark)");
const NIGHT = [
  ["#000000", "#f2f4f6"], ["#222222", "#e4e8ec"], ["#ffffff", "#15191e"], ["#e4e4e4", "#343c45"],
  ["#999999", "#6d7883"], ["#696969", "#a3adb8"], ["#332288", "#9d8df1"], ["#882255", "#d9739f"],
  ["#0072B2", "#4aa8e0"], ["rgba(0,0,0,0.13)", "rgba(242,244,246,0.16)"],
];
const coloured = (text, dark) => (dark ? NIGHT.reduce((done, [day, dusk]) => done.replaceAll(day, dusk), text) : text);
const themed = (plot, dark) => JSON.parse(coloured(panels.get(plot), dark));
const shownPlots = () => [...document.querySelectorAll(".plot")].filter((plot) => panels.has(plot));

const paintLegends = (root, dark) => {
  for (const svg of root.querySelectorAll(".legend svg")) {
    if (!swatches.has(svg)) swatches.set(svg, svg.innerHTML);
    svg.innerHTML = coloured(swatches.get(svg), dark);
  }
};

const hiddenSeries = (figure) => {
  const buttons = figure.querySelectorAll(".legend button[aria-pressed=false]");
  return new Set([...buttons].map((button) => button.dataset.series));
};

// A plot that is there already is changed in place, and keeps its zoom.
const draw = (plot, dark) => {
  const panel = themed(plot, dark);
  const hidden = hiddenSeries(plot.closest(".chart"));
  // A finger that scrolls the page must not zoom, and has nothing to hover with.
  const mouse = matchMedia("(hover: hover)").matches;
  panel.layout.dragmode = plot.layout?.dragmode ?? (mouse ? "zoom" : false);
  panel.layout.uirevision = "kept";
  for (const trace of panel.data) if (hidden.has(trace.legendgroup)) trace.visible = false;
  plot.style.minHeight = `${plot.dataset.height}px`;
  plot.style.minWidth = `${plot.dataset.width}px`;
  Plotly.react(plot, panel.data, panel.layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: mouse ? "hover" : false,
    // Named one by one: among plotly's own choice is one that uploads the plot.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: plot.closest(".chart").dataset.kind },
  });
};

const toggle = (button) => {
  const shown = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(shown));
  for (const plot of button.closest(".chart").querySelectorAll(".plot")) {
    const mine = plot.data.flatMap((trace, i) => (trace.legendgroup === button.dataset.series ? [i] : []));
    if (mine.length) Plotly.restyle(plot, { visible: shown }, mine);
  }
};

// Draws the figures in a part of the page.
const drawFigures = (root) => {
  paintLegends(root, night.matches);
  for (const plot of root.querySelectorAll(".plot")) {
    panels.set(plot, plot.parentElement.querySelector("script").textContent);
    draw(plot, night.matches);
  }
  for (const button of root.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => toggle(button));
  }
};

const repaint = (dark) => {
  paintLegends(document, dark);
  for (const plot of shownPlots()) draw(plot, dark);
};
night.addEventListener("change", () => repaint(night.matches));

// A plot does not follow the size of paper by itself. Lower ones fit two to a page, where there is height to spare.
const heightOf = (plot) => Number(plot.dataset.height);
addEventListener("beforeprint", () => {
  if (night.matches) repaint(false);
  for (const plot of shownPlots()) {
    const width = plot.closest(".single, .wide") ? PRINTED.single : PRINTED.double;
    const dense = plot.closest(".wide") || plot.layout.yaxis2;
    Plotly.relayout(plot, { width, height: heightOf(plot) * (dense ? 1 : PRINTED.lower), autosize: false });
  }
});
addEventListener("afterprint", () => {
  if (night.matches) repaint(true);
  for (const plot of shownPlots()) {
    Plotly.relayout(plot, { width: null, height: heightOf(plot), autosize: true });
  }
});
