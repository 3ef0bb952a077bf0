// Among which pictures is looked.

import { $ } from "./dom.js";

const inputs = () => [...$("filters").querySelectorAll("[name]")];

export class Filters {
  /** `changed` is called when there are others. */
  constructor(changed) {
    this.changed = changed;
    $("filter").addEventListener("click", () => this.toggle());
    $("filters").addEventListener("input", () => {
      this.#mark();
      changed();
    });
    $("unfilter").addEventListener("click", () => {
      this.values = {};
      changed();
    });
  }

  toggle(open = $("filters").hidden) {
    $("filters").hidden = !open;
    $("filter").setAttribute("aria-expanded", String(open));
    if (open) inputs()[0].focus();
  }

  /** What is filled in, by name. */
  get values() {
    const filled = inputs().filter((input) => (input.type === "checkbox" ? input.checked : input.value.trim()));
    return Object.fromEntries(filled.map((input) => [input.name, input.type === "checkbox" || input.value.trim()]));
  }

  set values(values) {
    for (const input of inputs()) {
      const value = values[input.name];
      if (input.type === "checkbox") input.checked = value === true;
      else input.value = typeof value === "string" ? value : "";
    }
    this.#mark();
  }

  /** Show what is nearly the same as the query alone. */
  doubles(alike) {
    this.values = { threshold: String(alike) };
    if ($("filters").hidden) this.toggle(true);
  }

  /** As the API has it. */
  get asked() {
    const { folders, threshold, where, ...others } = this.values;
    const asked = { ...others };
    if (threshold) asked.threshold = Number(threshold);
    if (where) asked.where = where.split(";").map((each) => each.trim()).filter(Boolean);
    // A name alone is that of any folder that has it somewhere.
    if (folders) asked.folders = [/[/*?]/.test(folders) ? folders : `*${folders}*`];
    return asked;
  }

  #mark() {
    const count = Object.keys(this.values).length;
    $("filter").classList.toggle("on", count > 0);
    $("filter").setAttribute("aria-label", count ? `Filters: ${count} in use` : "Filters");
  }
}
