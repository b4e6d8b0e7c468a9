// What takes long, in a pill over the picture: what it is, how long it has still to go, and an end to it.

import { byId, make } from "./dom";

interface Task {
  readonly text: string;
  readonly cancel: (() => void) | null;
  /** In milliseconds since the page was opened. */
  readonly began: number;
  /** Milliseconds that it is likely to take. */
  readonly expected: number | null;
}

export class Progress {
  private readonly tasks: Task[] = [];
  private timer = 0;

  constructor() {
    byId("cancel").onclick = () => this.tasks.at(-1)?.cancel?.();
  }

  /** Show a task until the function that this returns is called. */
  start(text: string, cancel: (() => void) | null = null, expected: number | null = null): () => void {
    const task = { text, cancel, began: performance.now(), expected };
    this.tasks.push(task);
    this.show();
    return () => {
      const at = this.tasks.indexOf(task);
      if (at >= 0) this.tasks.splice(at, 1);
      this.show();
    };
  }

  private show(): void {
    const task = this.tasks.at(-1);
    byId("progress").hidden = !task;
    clearInterval(this.timer);
    if (!task) return;
    byId("cancel").hidden = !task.cancel;
    const tick = (): void => {
      byId("progress-text").replaceChildren(task.text, make("span", { className: "time", textContent: timeOf(task) }));
    };
    tick();
    this.timer = window.setInterval(tick, 1000);
  }
}

function timeOf({ began, expected }: Task): string {
  const seconds = (performance.now() - began) / 1000;
  const left = expected === null ? 0 : Math.ceil(expected / 1000 - seconds);
  if (left > 0) return ` about ${left} s left`;
  // Nobody needs to be told that a second has passed.
  return seconds < 2 ? "" : ` ${Math.floor(seconds)} s`;
}
