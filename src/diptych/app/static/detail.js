// One picture: large, where it lies, where in it a text is, and which of some names fits.

import { $, ask, h, picture, score, sentence } from "./dom.js";

const NAMES = "diptych-names";

export class Detail {
  constructor({ query, sign, doubles, grid, more }) {
    this.grid = grid;
    this.query = query;
    this.hits = []; // those that it was opened among, also when others have taken their place
    this.place = 0;
    this.more = more;
    this.asked = {};
    this.sign = (weight) => {
      sign(this.hit, weight);
      $("detail").close();
    };
    $("close").addEventListener("click", () => $("detail").close());
    $("detail").addEventListener("click", (event) => {
      if (event.target === $("detail")) $("detail").close();
    });
    $("detail").addEventListener("close", () => {
      for (const what of ["know", "why", "label"]) this.#ask(what);
      grid.focus(this.isShown ? this.place : 0);
    });
    $("before").addEventListener("click", () => this.#turn(-1));
    $("after").addEventListener("click", () => this.#turn(1));
    $("plus").addEventListener("click", () => this.sign(1));
    $("minus").addEventListener("click", () => this.sign(-1));
    $("only").addEventListener("click", () => {
      $("detail").close();
      query.only({ picture: this.hit.id, weight: 1, label: this.hit.name });
    });
    $("doubles").addEventListener("click", () => {
      $("detail").close();
      doubles(this.hit);
    });
    $("preview").addEventListener("error", () => this.#lose());
    $("preview").addEventListener("load", () => $("preview").classList.add("there"));
    $("why").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#why();
    });
    $("unheat").addEventListener("click", () => this.#cool());
    $("square").addEventListener("load", ({ target }) => {
      $("heat").style.setProperty("--aspect", target.naturalWidth / target.naturalHeight);
    });
    $("strength").addEventListener("input", (event) => {
      $("map").style.opacity = event.target.value;
    });
    $("label").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#label();
    });
    $("detail").addEventListener("keydown", (event) => this.#key(event));
  }

  get hit() {
    return this.hits[this.place];
  }

  /** Whether the grid shows what it was opened among. */
  get isShown() {
    return this.hits === this.grid.hits;
  }

  /** A signal for what is asked now; what was asked of that kind before is dropped. */
  #ask(what) {
    this.asked[what]?.abort();
    this.asked[what] = new AbortController();
    return this.asked[what].signal;
  }

  open(place) {
    if (!$("detail").open) this.hits = this.grid.hits;
    this.place = place;
    const hit = this.hit;
    $("detail-name").textContent = hit.name;
    $("path").textContent = hit.path;
    const facts = [["size", size(hit.bytes)]];
    if (hit.modified > 0) facts.push(["written", new Date(1000 * hit.modified).toLocaleString()]);
    if (hit.score !== null) facts.unshift(["score", score(hit.score)], ["place", `${place + 1}`]);
    $("facts").replaceChildren(...facts.flatMap(fact));
    this.#know(hit.id);
    $("why-text").value = this.query.wanted[0] ?? $("why-text").value;
    $("names").value ||= localStorage.getItem(NAMES) ?? "";
    $("labels").replaceChildren();
    $("label-said").textContent = "";
    this.#ask("label");
    this.#cool();
    $("lost").hidden = true;
    $("preview").hidden = false;
    $("preview").classList.remove("there");
    $("preview").alt = hit.name;
    $("preview").src = picture(hit.id, "preview");
    $("before").disabled = place === 0;
    $("after").disabled = place === this.hits.length - 1;
    if (!$("detail").open) $("detail").showModal();
  }

  /** What else is written down: size, camera, caption. */
  async #know(id) {
    try {
      const { known: { width, height, ...others } } = await ask(`/api/pictures/${id}`, undefined, this.#ask("know"));
      const pixels = width ? [["pixels", `${width} × ${height}`]] : [];
      $("facts").append(...[...pixels, ...Object.entries(others)].flatMap(fact));
    } catch {
      // The picture's place says what is wrong with it.
    }
  }

  #turn(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.hits.length) return;
    this.open(place);
    if (place > this.hits.length - 8 && this.isShown && !this.grid.ended) this.more();
  }

  async #lose() {
    $("preview").hidden = true;
    $("lost").hidden = false;
    const id = this.hit.id;
    try {
      await ask(picture(id, "preview"));
    } catch (error) {
      if (this.hit.id === id) $("lost").textContent = sentence(error.message);
    }
  }

  #cool() {
    this.#ask("why");
    $("heat").hidden = true;
    $("strength").hidden = true;
    $("unheat").hidden = true;
    $("why-said").textContent = "";
    $("preview").hidden = !$("lost").hidden;
  }

  async #why() {
    const text = $("why-text").value.trim(), id = this.hit.id;
    if (!text) return;
    const about = `?text=${encodeURIComponent(text)}`;
    $("why-said").textContent = "Looking …";
    try {
      const found = await ask(picture(id, "why") + about, undefined, this.#ask("why"));
      $("square").src = picture(id, "square");
      $("map").src = picture(id, "map") + about;
      const where = `highest (${score(found.highest)}) at ${percent(found.right)} from the left, ${percent(found.down)} from the top`;
      $("square").alt = `What the model sees of ${this.hit.name}`;
      $("map").alt = `Where “${text}” is: ${where}`;
      $("map").style.opacity = $("strength").querySelector("input").value;
      $("why-said").textContent = `“${text}”: ${where}; lowest ${score(found.lowest)}. The map says where, its height little.`;
      $("preview").hidden = true;
      $("heat").hidden = false;
      $("strength").hidden = false;
      $("unheat").hidden = false;
    } catch (error) {
      if (error.name !== "AbortError") $("why-said").textContent = sentence(error.message);
    }
  }

  async #label() {
    const names = [...new Set($("names").value.split(/[,\n]/).map((name) => name.trim()).filter(Boolean))];
    const id = this.hit.id;
    if (!names.length) return;
    localStorage.setItem(NAMES, names.join(", "));
    $("label-said").textContent = "Asking …";
    try {
      const { kind, labels } = await ask("/api/labels", { names, picture: id }, this.#ask("label"));
      $("label-said").textContent = kind === "softmax"
        ? "The probabilities share the whole among these names (softmax), whether or not any fits; look at the cosine, too."
        : "Each name has a probability of its own (sigmoid): none may fit, or several.";
      $("labels").replaceChildren(...labels.map((label) => {
        const bar = h("meter", { min: 0, max: 1, value: label.probability });
        bar.setAttribute("aria-label", `Probability of ${label.name}`);
        return h("li", {}, h("span", {}, label.name), bar, h("b", {}, percent(label.probability)),
          h("span", { className: "soft" }, `cosine ${score(label.cosine)}`));
      }));
    } catch (error) {
      if (error.name !== "AbortError") $("label-said").textContent = sentence(error.message);
    }
  }

  #key(event) {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const does = { ArrowLeft: () => this.#turn(-1), ArrowRight: () => this.#turn(1), "+": () => this.sign(1), "=": () => this.sign(1), "-": () => this.sign(-1) };
    if (event.key in does) {
      event.preventDefault();
      does[event.key]();
    }
  }
}

const fact = ([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))];

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
