// The page: what is typed, dropped and clicked becomes a query, and its answer the grid.

import { $, ask, count, score, sentence } from "./dom.js";
import { Filters } from "./filters.js";
import { Detail } from "./detail.js";
import { Grid } from "./grid.js";
import { Query } from "./query.js";
import { turn } from "./theme.js";
import { Index, notice } from "./updating.js";

const PAUSE = 120; // milliseconds without a letter after which is searched
const PAGE = 60;

const WAIT = 500; // milliseconds between two looks how far the search for near duplicates is
const SLOW = 700; // milliseconds without an answer after which that is said

let timer, running, next = null, loading = false;
let ofAll = false; // whether the near duplicates of the whole index are shown

const query = new Query((settled) => {
  clearTimeout(timer);
  ofAll = false;
  if (settled) search(true);
  else timer = setTimeout(search, PAUSE);
});

const filters = new Filters(() => {
  clearTimeout(timer);
  ofAll = false;
  timer = setTimeout(search, PAUSE);
});
const grid = new Grid({ open: (place) => detail.open(place), sign, doubles, more });
const detail = new Detail({ query, sign, doubles, grid, more });
const index = new Index(() => {
  if (window.scrollY < 300 && !$("detail").open) search();
  else notice("The index has changed.", () => { dismiss(); search(); });
});

function sign(hit, weight) {
  query.add({ picture: hit.id, weight, label: hit.name });
}

function doubles(hit) {
  filters.doubles(index.alike);
  query.only({ picture: hit.id, weight: 1, label: hit.name });
}

/** A page of what is looked for; null: it isn't asked for any more. */
async function page(offset, signal) {
  if (!ofAll) return ask("/api/search", { ...query.asked, ...filters.asked, offset, limit: PAGE }, signal);
  for (;;) {
    const found = await ask("/api/duplicates", { offset, limit: PAGE / 3 }, signal);
    if (found.groups) return { ...found, hits: found.groups.flatMap(grouped) };
    say(`Comparing all pictures: ${found.done.toLocaleString("en")} of ${count(found.pictures, "picture")} …`);
    await new Promise((resolve) => setTimeout(resolve, WAIT));
    signal.throwIfAborted();
  }
}

/** A group's pictures; the first one begins a row, and says how many there are. */
const grouped = ({ size, hits }) => hits.map((hit, place) => (place ? hit : { ...hit, first: true, alike: size - 1 }));

/** The first page of what is looked for; answers to what was typed before are dropped. */
async function search(settled = false) {
  clearTimeout(timer);
  running?.abort();
  if (settled) remember(true);
  const mine = (running = new AbortController());
  loading = true;
  next = null; // what is shown goes on with nothing that was asked for since
  const slow = ofAll ? null : setTimeout(() => say("Searching …"), SLOW);
  try {
    const found = await page(0, mine.signal).finally(() => clearTimeout(slow));
    if (mine !== running || !found) return;
    next = found.next;
    grid.replace(found.hits, next === null);
    window.scrollTo(0, 0);
    say(summary(found));
    remember(false);
    if (!ofAll) query.read(found.typed);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  } finally {
    if (mine === running) loading = false;
  }
}

/** The address of the page says what is looked for; each settled query is a step to go back to. */
function remember(isStep) {
  const kept = query.kept;
  if (ofAll) kept.append("d", "1");
  if (Object.keys(filters.values).length) kept.append("f", JSON.stringify(filters.values));
  const address = String(kept) ? `#${kept}` : location.pathname;
  if (address === (location.hash || location.pathname)) return;
  if (isStep) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

async function more() {
  if (loading || next === null) return;
  loading = true;
  const mine = running;
  try {
    const found = await page(next, mine.signal);
    if (mine !== running || !found) return;
    next = found.next;
    grid.append(found.hits, next === null);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  } finally {
    if (mine === running) loading = false;
  }
}

function summary(found) {
  $("twins").setAttribute("aria-pressed", String(ofAll));
  if (ofAll) return doublesSaid(found);
  if (!found.total) return "No picture is as the filters say.";
  if (query.isEmpty) return `${count(found.total, "picture")}, in the order of the index.`;
  if (!found.hits.length) return "No picture reaches the score that the filters ask for.";
  const best = score(found.hits[0].score), typical = score(found.typical);
  const remark = found.remark && ` ${sentence(found.remark)}.`;
  return `${count(found.total, "picture")} compared in ${found.milliseconds.toFixed(0)} ms; best score ${best}, typical ${typical}.${remark}`;
}

function doublesSaid(found) {
  if (!found.total) return `No two pictures have a score of ${index.alike} or more.`;
  const groups = count(found.total, "group"), others = count(found.alike, "picture");
  return `${groups} of near duplicates, the largest first: beside the first of each, ${others}. Nothing is deleted.`;
}

function say(text, isError = false) {
  $("said").classList.toggle("error", isError);
  $("said").textContent = sentence(text);
}

function dismiss() {
  $("notice").hidden = true;
  $("notice").lastElementChild.hidden = true;
}

async function upload(files) {
  const file = [...files].find((each) => each.type.startsWith("image/")) ?? files[0];
  if (!file) return;
  say("Reading the picture …");
  try {
    await query.upload(file);
  } catch (error) {
    say(error.message, true);
  }
}

// Dropped, pasted and chosen pictures.
let depth = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  depth += 1;
  $("drop").hidden = false;
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  $("drop").hidden = depth === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  if (!carriesFiles(event) && event.target.closest?.("input")) return; // a text that is dragged
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  if ($("detail").open) $("detail").close();
  upload(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  // An office program lays a picture of the text beside it.
  const isText = event.target.closest("input") && event.clipboardData.types.includes("text/plain");
  if (event.clipboardData.files.length && !isText) {
    event.preventDefault();
    upload(event.clipboardData.files);
  }
});
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  upload($("file").files);
  $("file").value = "";
});

// Buttons and keys.
function twins() {
  const shown = !ofAll;
  query.clear();
  filters.values = {};
  ofAll = shown;
  search(true);
}
$("twins").addEventListener("click", twins);
$("theme").addEventListener("click", turn);
$("help").addEventListener("click", () => $("keys").showModal());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // what stands behind # in the address is the query
  if (!grid.focus(0)) $("grid").focus();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (query.isEmpty) $("text").blur();
    else query.clear();
  } else if (event.key === "ArrowDown" && grid.focus(0)) event.preventDefault();
  else if (event.key === "Backspace" && !query.text) query.pop();
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const does = { "/": () => $("text").focus(), f: () => filters.toggle(), u: () => index.open(), d: twins, "?": () => $("keys").showModal() };
  if (event.key in does) {
    event.preventDefault();
    does[event.key]();
  }
});
function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  query.kept = kept;
  ofAll = kept.get("d") === "1";
  try {
    filters.values = JSON.parse(kept.get("f") ?? "{}") ?? {};
  } catch {
    filters.values = {};
  }
  search();
}
addEventListener("popstate", recall);

recall();
index.look();
if (matchMedia("(hover: hover)").matches) $("text").focus();
