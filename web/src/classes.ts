// Classes that objects can have, the same for all images; Shift and a number key gives one.

import type { History } from "./document";
import { byId, make } from "./dom";

const KEY = "samtrt-classes";
const MOST = 80;

export class Classes {
  private names: readonly string[] = read();

  constructor(private readonly history: History) {
    const input = byId<HTMLInputElement>("class-name");
    byId<HTMLFormElement>("class-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add([input.value]);
      input.value = "";
    });
  }

  /** Add those that are not there yet. */
  add(names: readonly string[]): void {
    const new_ = names.map((name) => name.trim()).filter((name) => name && !this.names.includes(name));
    this.keep([...this.names, ...new Set(new_)].slice(0, MOST));
  }

  /** Give the active object a class by its number, from 0. */
  assign(index: number): void {
    const name = this.names[index];
    const { active } = this.history;
    if (active && name !== undefined) this.history.setLabel(active.id, name);
  }

  update(): void {
    const { active } = this.history;
    byId("classes").replaceChildren(
      ...this.names.map((name, i) => {
        const on = active?.label === name;
        const key = i < 9 ? make("kbd", { textContent: String(i + 1) }) : "";
        const give = make("button", { className: "give", disabled: !active }, key, name);
        give.setAttribute("aria-pressed", String(on));
        if (i < 9) give.title = `Shift+${i + 1}`;
        give.onclick = () => this.assign(i);
        const drop = make("button", { className: "drop", textContent: "×", ariaLabel: `Remove the class ${name}` });
        drop.onclick = () => this.keep(this.names.filter((other) => other !== name));
        return make("li", {}, give, drop);
      }),
    );
  }

  private keep(names: readonly string[]): void {
    this.names = names;
    localStorage.setItem(KEY, JSON.stringify(names));
    this.update();
  }
}

function read(): string[] {
  try {
    const names: unknown = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(names) ? names.filter((name) => typeof name === "string") : [];
  } catch {
    return [];
  }
}
