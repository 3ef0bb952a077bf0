// The pictures that were found: tiles that are added as one scrolls, and moved among by keys.

import { $, h, picture, score } from "./dom.js";

const MOST = 6000;

export class Grid {
  constructor({ open, sign, doubles, more }) {
    this.hits = [];
    this.open = open;
    this.sign = sign;
    this.doubles = doubles;
    this.current = 0;
    this.ended = true;
    const watcher = new IntersectionObserver((seen) => {
      if (seen.some((entry) => entry.isIntersecting) && !this.ended) more();
    }, { rootMargin: "900px" });
    watcher.observe($("end"));
    // Asked again after each page: what is short may still be in view.
    this.look = () => {
      watcher.unobserve($("end"));
      watcher.observe($("end"));
    };
    $("grid").addEventListener("keydown", (event) => this.#key(event));
    $("grid").addEventListener("focusin", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.#mark(this.tiles.indexOf(tile));
    });
  }

  get tiles() {
    return [...$("grid").children];
  }

  /** Show these in place of others. */
  replace(hits, isLast) {
    const isHere = $("grid").contains(document.activeElement);
    this.hits = [];
    this.current = 0;
    $("grid").replaceChildren();
    this.append(hits, isLast);
    if (isHere && !this.focus(0)) $("grid").focus(); // keys go on where they were
  }

  append(hits, isLast) {
    const start = this.hits.length;
    this.hits.push(...hits);
    $("grid").append(...hits.map((hit, place) => this.#tile(hit, start + place)));
    this.ended = isLast || this.hits.length >= MOST;
    $("end").textContent = this.hits.length >= MOST ? "That is enough for one page: look for something narrower." : "";
    this.look();
  }

  focus(place) {
    const tile = $("grid").children[place];
    if (!tile) return false;
    this.#mark(place);
    tile.firstChild.focus();
    tile.scrollIntoView({ block: "nearest" });
    return true;
  }

  #mark(place) {
    for (const [at, reach] of [[this.current, -1], [place, 0]]) {
      for (const button of $("grid").children[at]?.querySelectorAll("button") ?? []) button.tabIndex = reach;
    }
    this.current = place;
  }

  #tile(hit, place) {
    const reach = place === this.current ? 0 : -1;
    const open = h("button", { type: "button", className: "open", tabIndex: reach, title: hit.path });
    open.addEventListener("click", () => this.open(place));
    if (hit.gone) open.append(lost(hit));
    else {
      const image = h("img", { loading: "lazy", decoding: "async", alt: hit.name });
      image.addEventListener("load", () => image.classList.add("there"));
      image.addEventListener("error", () => open.replaceChildren(lost(hit)));
      image.src = picture(hit.id, "thumbnail");
      open.append(image);
    }
    const plus = h("button", { type: "button", className: "sign", tabIndex: reach, title: "More like this one (+)" }, "+");
    plus.setAttribute("aria-label", `More like ${hit.name}`);
    plus.addEventListener("click", () => this.sign(hit, 1));
    const minus = h("button", { type: "button", className: "sign", tabIndex: reach, title: "Less like this one (−)" }, "−");
    minus.setAttribute("aria-label", `Less like ${hit.name}`);
    minus.addEventListener("click", () => this.sign(hit, -1));
    const caption = h("span", { className: "caption" }, h("span", {}, hit.name));
    if (hit.score !== null) caption.append(h("b", {}, hit.copy ? "copy" : score(hit.score)));
    const tile = h("li", { className: hit.first ? "tile first" : "tile" }, open, h("span", { className: "signs" }, plus, minus), caption);
    if (hit.alike) tile.append(this.#alike(hit, reach));
    return tile;
  }

  #alike(hit, reach) {
    const title = `${hit.alike} more that ${hit.alike === 1 ? "is" : "are"} nearly the same`;
    const badge = h("button", { type: "button", className: "alike", tabIndex: reach, title }, `${hit.alike + 1}×`);
    badge.addEventListener("click", () => this.doubles(hit));
    return badge;
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.closest(".tile")) return;
    const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) {
      event.preventDefault();
      const place = this.current + steps[event.key];
      if (place < 0 && event.key === "ArrowUp") $("text").focus();
      else this.focus(Math.min(Math.max(place, 0), this.hits.length - 1));
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      this.focus(event.key === "Home" ? 0 : this.hits.length - 1);
    } else if (event.key === "+" || event.key === "=") this.sign(this.hits[this.current], 1);
    else if (event.key === "-") this.sign(this.hits[this.current], -1);
  }
}

const lost = (hit) => h("span", { className: "lost" }, h("b", {}, "can't be shown"), hit.name);
