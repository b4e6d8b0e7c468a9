// What stands beside a video: how far it is, files of it, and an end to it.

import { make } from "./dom";
import type { Film } from "./film";
import type { VideoFacts } from "./video-api";
import type { VideoKind } from "./video-export";

const KINDS: readonly (readonly [VideoKind, string])[] = [
  ["youtube-vis", "YouTube-VIS"],
  ["davis", "DAVIS PNG"],
];

export class VideoPanel {
  readonly element: HTMLElement;
  private readonly status = make("p", { id: "video-status", className: "hint", role: "status" });
  private readonly exports: readonly HTMLButtonElement[];

  constructor(
    private readonly film: Film,
    private readonly facts: VideoFacts,
    take: (kind: VideoKind) => void,
    close: () => void,
  ) {
    const title = make("h2", { id: "video-title", textContent: "Video" });
    this.exports = KINDS.map(([kind, textContent]) =>
      make("button", { id: `export-${kind}`, className: "button", textContent, onclick: () => take(kind) }),
    );
    this.element = make(
      "section",
      {},
      title,
      this.status,
      ...facts.notices.map((notice) => make("p", { className: "hint note", textContent: notice })),
      make("div", { className: "exports two" }, ...this.exports),
      make("button", { id: "close-video", className: "link", textContent: "Close the video", onclick: close }),
    );
    this.element.setAttribute("aria-labelledby", title.id);
  }

  update(): void {
    const found = this.film.masks.size;
    this.status.textContent = found
      ? `Masks on ${found} of ${this.facts.times.length} frames.`
      : "Point at objects on any frame, then track.";
    for (const button of this.exports) button.disabled = !found;
  }
}
