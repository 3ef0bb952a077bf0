// What is looked for: the text in the field, and parts with weights beside it.

import { $, ask, h } from "./dom.js";

const MOST = 20;

export class Query {
  /** `changed(settled)` is called when there is something else to look for; `settled`: not while typing. */
  constructor(changed) {
    this.terms = [];
    this.typed = []; // the parts of the text, as the server read it
    this.settling = false;
    this.changed = changed;
    $("text").addEventListener("input", () => {
      this.typed = [];
      this.#show();
      changed(false);
    });
    $("query").addEventListener("submit", (event) => event.preventDefault());
    $("text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) this.#settle();
    });
    $("clear").addEventListener("click", () => {
      this.clear();
      $("text").focus();
    });
  }

  get text() {
    return $("text").value;
  }

  get isEmpty() {
    return !this.terms.length && !this.text.trim();
  }

  /** The texts that a picture should be like, of which there are maps. */
  get wanted() {
    const parts = [...this.terms.filter((term) => term.text), ...this.typed];
    return parts.filter((term) => term.weight > 0).map((term) => term.text);
  }

  /** As the API has it. */
  get asked() {
    return {
      text: this.text,
      terms: this.terms.map(({ text, picture, upload, weight }) =>
        text ? { text, weight } : picture ? { picture, weight } : { upload, weight }),
    };
  }

  add(term) {
    const same = this.terms.findIndex((other) => name(other) === name(term));
    if (same >= 0) this.terms.splice(same, 1, term);
    else if (this.terms.length < MOST) this.terms.push(term);
    this.#show();
    this.changed(true);
  }

  only(term) {
    $("text").value = "";
    this.typed = [];
    this.terms = [];
    this.add(term);
  }

  pop() {
    if (!this.terms.pop()) return;
    this.#show();
    this.changed(true);
  }

  clear() {
    $("text").value = "";
    this.typed = [];
    this.terms = [];
    this.#show();
    this.changed(true);
  }

  /** Search with a file. Throws an Error with a sentence where it can't be. */
  async upload(file) {
    const { upload } = await ask("/api/uploads", file);
    this.add({ upload, weight: 1, label: file.name || "a picture" });
  }

  /** What the server read of the text. */
  read(typed) {
    this.typed = typed;
    if (this.settling) this.#settle();
  }

  /** The text becomes parts, now or when it is read. */
  #settle() {
    this.settling = !this.typed.length && Boolean(this.text.trim());
    if (this.settling) this.changed(true);
    if (!this.typed.length) return;
    $("text").value = "";
    const typed = this.typed;
    this.typed = [];
    for (const { text, weight } of typed) {
      this.terms = this.terms.filter((term) => term.text !== text);
      if (this.terms.length < MOST) this.terms.push({ text, weight });
    }
    this.#show();
    this.changed(true);
  }

  /** For the address of the page. */
  get kept() {
    const kept = new URLSearchParams();
    if (this.text.trim()) kept.append("q", this.text);
    for (const term of this.terms) kept.append("t", JSON.stringify(term));
    return kept;
  }

  set kept(kept) {
    $("text").value = kept.get("q") ?? "";
    this.typed = [];
    this.terms = kept.getAll("t").slice(0, MOST).flatMap(parsed);
    this.#show();
  }

  #show() {
    $("clear").hidden = this.isEmpty;
    $("chips").replaceChildren(...this.terms.map((term) => this.#chip(term)));
    $("text").placeholder = this.terms.length ? "and …" : "Type what to look for, or drop a picture";
  }

  #chip(term) {
    const label = term.text ?? term.label ?? "a picture";
    const weight = h("input", { type: "number", step: "0.5", value: String(term.weight), min: "-9", max: "9" });
    weight.setAttribute("aria-label", `Weight of ${label}`);
    weight.addEventListener("change", () => {
      const value = Number(weight.value);
      if (!value || !Number.isFinite(value)) weight.value = String(term.weight);
      else {
        term.weight = value;
        item.classList.toggle("minus", value < 0);
        this.changed(true);
      }
    });
    const away = h("button", { type: "button", title: "Leave it out" }, "×");
    away.setAttribute("aria-label", `Leave out ${label}`);
    away.addEventListener("click", () => {
      this.terms = this.terms.filter((other) => other !== term);
      this.#show();
      this.changed(true);
      $("text").focus();
    });
    const source = term.picture ? `/api/pictures/${term.picture}/thumbnail` : `/api/uploads/${term.upload}/thumbnail`;
    const shown = term.text ? h("span", {}, label) : h("img", { src: source, alt: label, title: label });
    const item = h("li", { className: term.weight < 0 ? "chip minus" : "chip" }, shown, weight, away);
    return item;
  }
}

const name = (term) => term.text ?? term.picture ?? term.upload;

/** A part from the address of the page, which anybody may have written. */
function parsed(text) {
  try {
    const { text: words, picture, upload, weight, label } = JSON.parse(text);
    const given = [words, picture, upload].filter((value) => typeof value === "string" && value);
    const ids = [picture, upload].every((value) => value === undefined || /^[\w-]{1,40}$/.test(value));
    if (given.length !== 1 || !ids || !Number.isFinite(weight) || !weight) return [];
    return [{ text: words, picture, upload, weight, label: label === undefined ? label : String(label) }];
  } catch {
    return [];
  }
}
