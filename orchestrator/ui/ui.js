// Asks now and then which parts of the page have changed, and puts the new ones in the place of the old.

const base = `${location.pathname.replace(/\/$/, "")}/parts`;
const parts = [...document.querySelectorAll("[data-part]")];
const tables = new WeakMap();
const LONGEST_SECONDS = 30;
const FOCUSABLE = "a, button, input, summary, [tabindex]";

let tag = "";
let seconds = Number(document.body.dataset.seconds);
let failures = 0;
let timer = 0;
let lookedAt = Date.now();

// --- what a reader has done to a part outlives its replacement

const sortedBy = (box) => {
  const heads = [...box.querySelectorAll("thead th")];
  const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
  return column < 0 ? null : [column, heads[column].getAttribute("aria-sort")];
};

const remembered = (part) => ({
  open: new Map([...part.querySelectorAll("details")].map((one) => [one.dataset.key, one.open])),
  scrolled: [...part.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]),
  tables: [...part.querySelectorAll(".sortable")].map((box) => [box.querySelector("input").value, sortedBy(box)]),
  focus: [...part.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement),
});

const restore = (part, state) => {
  for (const one of part.querySelectorAll("details")) one.open = state.open.get(one.dataset.key) ?? one.open;
  part.querySelectorAll(".sortable").forEach((box, i) => {
    const [text, sorted] = state.tables[i] ?? ["", null];
    box.querySelector("input").value = text;
    if (sorted) tables.get(box).sort(...sorted);
    tables.get(box).filter();
  });
  part.querySelectorAll(".scroll").forEach((one, i) => {
    [one.scrollLeft, one.scrollTop] = state.scrolled[i] ?? [0, 0];
  });
  if (state.focus >= 0) part.querySelectorAll(FOCUSABLE)[state.focus]?.focus({ preventScroll: true });
};

const isBeingCopied = (part) => {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
};

// --- figures are changed in place, so that they keep their zoom

const isAlike = (one, other) =>
  one.querySelectorAll(".plot").length === other.querySelectorAll(".plot").length &&
  Boolean(one.querySelector(".legend")) === Boolean(other.querySelector(".legend"));

const changeFigure = (figure, fresh) => {
  const hidden = hiddenSeries(figure);
  for (const button of fresh.querySelectorAll(".legend button")) {
    if (hidden.has(button.dataset.series)) button.setAttribute("aria-pressed", "false");
  }
  const freshPanels = [...fresh.querySelectorAll(".panel")];
  [...figure.querySelectorAll(".panel")].forEach((panel, i) => {
    const heading = freshPanels[i].querySelector("h4");
    panel.querySelector("h4")?.remove();
    if (heading) panel.prepend(heading);
    panel.querySelector("script").textContent = freshPanels[i].querySelector("script").textContent;
    Object.assign(panel.querySelector(".plot").dataset, freshPanels[i].querySelector(".plot").dataset);
  });
  fresh.querySelector(".panels").replaceWith(figure.querySelector(".panels"));
  figure.replaceChildren(...fresh.childNodes);
  return figure;
};

const keepFigures = (part, fresh) => {
  const old = new Map([...part.querySelectorAll(".chart")].map((figure) => [figure.dataset.kind, figure]));
  for (const figure of fresh.querySelectorAll(".chart")) {
    const before = old.get(figure.dataset.kind);
    if (before && isAlike(before, figure)) {
      old.delete(figure.dataset.kind);
      figure.replaceWith(changeFigure(before, figure));
    }
  }
  for (const figure of old.values()) figure.querySelectorAll(".plot").forEach((plot) => Plotly.purge(plot));
};

// --- parts

const enhance = (part) => {
  for (const box of part.querySelectorAll(".sortable")) tables.set(box, makeSortable(box));
  if (part.querySelector(".plot")) drawFigures(part);
};

const replace = (part, html, version) => {
  const state = remembered(part);
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  keepFigures(part, fresh.content);
  part.replaceChildren(fresh.content);
  part.dataset.version = version;
  enhance(part);
  restore(part, state);
};

const asked = async (path, headers = {}) => {
  const answer = await fetch(`${base}/${path}`, { headers, cache: "no-store" });
  if (!answer.ok && answer.status !== 304) throw new Error((await answer.text()).trim());
  return answer;
};

const refresh = async (versions) => {
  for (const part of parts) {
    const version = versions[part.dataset.part];
    if (version === part.dataset.version) continue;
    if (isBeingCopied(part)) tag = "";
    else replace(part, await (await asked(part.dataset.part)).text(), version);
  }
};

// --- looking

const said = document.getElementById("said");
const lost = document.getElementById("lost");
const say = (isWell, text) => {
  document.getElementById("live").classList.toggle("lost", !isWell);
  said.textContent = `${isWell ? "Live, read" : "Not live since"} ${new Date(lookedAt).toLocaleTimeString()}`;
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = isWell;
};

const look = async () => {
  try {
    const answer = await asked("versions", tag ? { "If-None-Match": tag } : {});
    if (answer.status === 200) {
      const now = await answer.json();
      ({ seconds } = now);
      tag = answer.headers.get("ETag") ?? "";
      await refresh(now.versions);
    }
    [failures, lookedAt] = [0, Date.now()];
    say(true, "");
  } catch (error) {
    [failures, tag] = [failures + 1, ""];
    say(false, error instanceof TypeError ? "The server does not answer; trying again." : error.message);
  }
  wait();
};

// A page that nobody looks at asks nothing.
const wait = () => {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, 1000 * Math.min(LONGEST_SECONDS, seconds * 2 ** failures));
};
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) look();
});

parts.forEach(enhance);
say(true, "");
wait();
