// The index: what it is, how far an update is, and whether another program has changed it.

import { $, ask, count, h, sentence } from "./dom.js";

const BUSY = 600, QUIET = 4000;

export class Index {
  /** `renewed` is called when another state of the index is open. */
  constructor(renewed) {
    this.renewed = renewed;
    this.version = null;
    this.alike = 1; // the score from which on two pictures are nearly the same
    $("renew").addEventListener("click", () => this.open());
    $("start").addEventListener("click", () => this.#post("/api/update"));
    $("stop").addEventListener("click", () => this.#post("/api/update/stop"));
    document.addEventListener("visibilitychange", () => this.look());
  }

  open() {
    $("index").showModal();
    this.look();
  }

  async #post(path) {
    try {
      await ask(path, {});
    } catch (error) {
      $("update-said").textContent = sentence(error.message);
      return;
    }
    this.look();
  }

  async look() {
    clearTimeout(this.timer);
    let running = false;
    if (!document.hidden) {
      try {
        const status = await ask("/api/status");
        running = ["looking", "encoding"].includes(status.update.stage);
        this.#show(status, running);
      } catch (error) {
        notice(error.message);
      }
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), running ? BUSY : QUIET);
  }

  #show(status, running) {
    const { update } = status;
    this.alike = status.alike;
    document.title = `${status.index.replace(/\/+$/, "").split("/").pop()} · Diptych`;
    const facts = [["index", status.index], ["pictures", status.pictures.toLocaleString("en")], ["from", status.sources.join("\n") || "not written down"],
      ["model", `${status.model} (${status.dtype})`]];
    if (status.damaged) facts.push(["damaged", `${count(status.damaged, "entry")}, left out; an update makes them again`]);
    const about = facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
    if ($("about").textContent !== about.map((part) => part.textContent).join("")) $("about").replaceChildren(...about);
    for (const bar of [$("bar"), $("progress")]) {
      bar.hidden = !running;
      if (update.stage === "encoding") {
        bar.max = Math.max(1, update.total);
        bar.value = update.done;
      } else bar.removeAttribute("value");
    }
    const columns = Object.keys(status.columns);
    if ($("columns").childElementCount !== columns.length) $("columns").replaceChildren(...columns.map((name) => h("option", { value: `${name}=` })));
    $("start").hidden = running;
    $("stop").hidden = !running;
    const said = {
      looking: "Looking through the folders …",
      encoding: `${update.done.toLocaleString("en")} of ${count(update.total, "new picture")} encoded. You can search meanwhile.`,
    };
    const line = said[update.stage] ?? sentence(update.said);
    if ($("update-said").textContent !== line) $("update-said").textContent = line;
    $("unreadable").hidden = !update.unreadable.length;
    $("unreadable").firstChild.textContent = `${count(update.unreadable.length, "picture")} that can't be read`;
    $("unreadable").lastChild.replaceChildren(...update.unreadable.map((line) => h("li", {}, line)));
    notice(status.notice);
    if (this.version !== null && this.version !== status.version) this.renewed();
    this.version = status.version;
  }
}

/** A sentence that stays; with `again`, a button that does that. */
export function notice(text, again) {
  const [line, button] = $("notice").children;
  if (!text && !button.hidden && !again) return; // who was offered to search again still is
  $("notice").hidden = !text;
  if (line.textContent !== sentence(text)) line.textContent = sentence(text);
  button.hidden = !again;
  button.onclick = again ?? null;
}
