// Going from image to image: the buttons beside the title, and the list behind it.

import { byId, icon, make } from "./dom";
import type { Entry, Workspace } from "./workspace";

export class Gallery {
  private readonly dialog = byId<HTMLDialogElement>("images");

  constructor(private readonly workspace: Workspace) {
    byId("previous").onclick = () => workspace.step(-1);
    byId("next").onclick = () => workspace.step(1);
    byId("gallery").onclick = () => this.show();
  }

  show(): void {
    this.update();
    if (this.workspace.entries.length && !this.dialog.open) this.dialog.showModal();
  }

  update(): void {
    const { entries, current } = this.workspace;
    const at = current ? entries.indexOf(current) : -1;
    byId<HTMLButtonElement>("previous").disabled = at <= 0;
    byId<HTMLButtonElement>("next").disabled = at < 0 || at === entries.length - 1;
    byId<HTMLButtonElement>("gallery").disabled = !entries.length;
    byId("place").hidden = entries.length < 2;
    byId("place").textContent = `${at + 1} / ${entries.length}`;
    byId("image-list").replaceChildren(...entries.map((entry) => this.row(entry, entry === current)));
  }

  private row(entry: Entry, isOpen: boolean): HTMLLIElement {
    const { count, name } = entry;
    const objects = count ? `${count} ${count === 1 ? "object" : "objects"}` : "";
    const open = make(
      "button",
      { className: "open", type: "button" },
      make("span", { textContent: name }),
      make("span", { textContent: objects }),
    );
    if (isOpen) open.setAttribute("aria-current", "true");
    open.onclick = () => {
      this.dialog.close();
      void this.workspace.open(entry);
    };
    if (isOpen) return make("li", {}, open);
    const drop = make("button", { className: "icon", type: "button", ariaLabel: `Take ${name} off the list` }, icon("bin"));
    drop.onclick = () => {
      this.workspace.remove(entry);
      this.update();
    };
    return make("li", {}, open, drop);
  }
}
