// A video on the page: pointed at on any frame, tracked while one watches, corrected, taken away as files.

import { announce, byId, make } from "./dom";
import { Film } from "./film";
import { Frames, LONGEST } from "./frames";
import type { Gestures, Tool } from "./input";
import type { Listed, Objects } from "./objects";
import type { Picture } from "./pictures";
import type { Progress } from "./progress";
import { Timeline } from "./timeline";
import type { Box, Point, Prompt } from "./types";
import { isEmpty } from "./types";
import type { VideoApi, VideoFacts } from "./video-api";
import type { VideoKind } from "./video-export";
import { keepOpen, type Kept } from "./video-kept";
import type { View } from "./view";

/** What of the page a video is shown with. */
export interface Site {
  readonly view: View;
  readonly objects: Objects;
  readonly progress: Progress;
  tool(): Tool;
  download(file: { readonly name: string; readonly blob: Blob }): void;
  failed(what: string, error: unknown, retry?: () => void): void;
  passed(what: string): void;
  /** The user has closed the video. */
  closed(): void;
}

export class VideoMode implements Gestures, Listed {
  private readonly film = new Film();
  private readonly frames: Frames;
  private readonly timeline: Timeline;
  private readonly status = make("p", { id: "video-status", className: "hint", role: "status" });
  private readonly panel: HTMLElement;
  /** What is said is sent one after the other. */
  private queue: Promise<void> = Promise.resolve();
  private waiting = 0;
  private turn = 0;
  /** The frame that is asked for, whose picture may still be on its way. */
  private wanted = 0;
  private tracking: AbortController | null = null;
  private playing = false;
  private shown = false;
  private fitted = false;

  constructor(
    private readonly api: VideoApi,
    private readonly facts: VideoFacts,
    private readonly site: Site,
  ) {
    this.frames = new Frames((frame) => api.frame(facts.id, frame, LONGEST));
    this.timeline = new Timeline(this.film, facts.times, {
      go: (frame) => void this.show(frame),
      step: (by) => this.step(by),
      play: () => void this.play(),
      track: (direction) => void this.track(direction),
      stop: () => void this.stop(),
    });
    this.panel = this.makePanel();
    for (const { frame, object, prompt } of facts.prompts) {
      if (!this.film.objects.has(object)) this.film.add(object);
      this.film.setPrompt(frame, object, prompt);
    }
    this.film.active = null;
  }

  get doc() {
    return this.film.doc;
  }

  /** Take up names of objects, and the masks that the server has found before. */
  async restore(kept: Kept): Promise<void> {
    for (const [id, name] of Object.entries(kept.names)) {
      const object = this.film.objects.get(Number(id));
      if (object) object.name = name;
    }
    for await (const seen of this.api.found(this.facts.id)) this.film.see(seen);
    this.update();
  }

  /** Put the video onto the page, in the place of an image. */
  enter(): void {
    this.shown = true;
    this.fitted = false;
    const { dataset } = document.body;
    dataset.mode = "video";
    dataset.state = "open";
    document.querySelector(".stage")!.append(this.timeline.element);
    document.querySelector("aside")!.append(this.panel);
    const { name, size, times } = this.facts;
    byId("title").textContent = `${name} · ${size.width} × ${size.height} · ${times.length} frames`;
    this.site.objects.list(this);
    void this.show(this.film.frame);
    this.keep();
  }

  /** Take it off the page; it stays as it is. */
  leave(): void {
    this.shown = this.playing = false;
    delete document.body.dataset.mode;
    delete document.body.dataset.video;
    this.timeline.element.remove();
    this.panel.remove();
  }

  /** Bring everything that shows the video up to date. */
  update(): void {
    if (!this.shown) return;
    const { film, site } = this;
    site.view.setDoc(film.doc);
    site.objects.update();
    this.timeline.update(this.tracking !== null, this.playing);
    document.body.dataset.video = this.tracking ? "tracking" : this.waiting ? "busy" : "idle";
    const active = film.active === null ? null : film.objects.get(film.active)!;
    const picked = site.view.picked !== null && active !== null;
    byId("tip-text").textContent = this.tracking
      ? "Tracking: stop to correct"
      : picked
        ? "Point: drag it, or"
        : active
          ? `Clicks refine ${active.name} on this frame ·`
          : film.objects.size
            ? "Click a mask to select it, or something new"
            : "Click an object, or drag a box around it";
    byId("tip-point").hidden = !picked;
    byId("tip-new").hidden = picked || !active || this.tracking !== null;
    this.status.textContent = film.masks.size
      ? `Masks on ${film.masks.size} of ${this.facts.times.length} frames.`
      : "Point at objects on any frame, then track.";
    for (const button of this.panel.querySelectorAll<HTMLButtonElement>(".exports button")) {
      button.disabled = !film.masks.size;
    }
  }

  step(by: number): void {
    if (!this.tracking) void this.show(this.wanted + by);
  }

  /** Show a frame; of several that are asked for, the last. */
  async show(frame: number): Promise<void> {
    const at = Math.min(Math.max(frame, 0), this.facts.times.length - 1);
    const turn = ++this.turn;
    this.wanted = at;
    let picture: Picture;
    try {
      picture = await this.frames.get(at);
      this.site.passed("frame");
    } catch (error) {
      if (turn !== this.turn || !this.shown) return;
      // What is found of others is still to be reached.
      picture = await empty();
      this.site.failed("frame", error, () => void this.show(at));
    }
    if (turn !== this.turn || !this.shown) return;
    this.film.frame = at;
    this.site.view.picked = null;
    if (this.fitted) this.site.view.setFrame(picture);
    else this.site.view.setImage(picture, this.facts.size);
    this.fitted = true;
    this.update();
  }

  async play(): Promise<void> {
    const { film, facts } = this;
    this.playing = !this.playing;
    if (this.playing && film.frame === facts.times.length - 1) await this.show(0);
    while (this.playing && film.frame < facts.times.length - 1) {
      const [frame, began] = [film.frame, performance.now()];
      if (frame + 2 < facts.times.length) this.frames.get(frame + 2).catch(() => undefined);
      await this.show(frame + 1);
      if (film.frame !== frame + 1) break; // the user has gone elsewhere
      const wait = 1000 * (facts.times[frame + 1]! - facts.times[frame]!) - (performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
    }
    this.playing = false;
    this.update();
  }

  /** Track from the frame that is shown, and show what is found as it comes. */
  async track(direction: "forward" | "backward"): Promise<void> {
    if (this.tracking || !this.film.objects.size) return;
    const calledOff = (this.tracking = new AbortController());
    this.playing = false;
    this.update();
    await this.queue;
    const end = this.site.progress.start("Tracking…", () => void this.stop());
    let [count, last, showing] = [0, this.film.frame, Promise.resolve()];
    let busy = false;
    const asked = { start: this.film.frame, direction };
    try {
      for await (const seen of this.api.track(this.facts.id, asked, calledOff.signal)) {
        this.film.see(seen);
        count++;
        last = seen.frame;
        if (busy) continue; // a picture is on its way
        busy = true;
        showing = this.show(last).finally(() => (busy = false));
      }
      this.site.passed("track");
      announce(`${count} frames tracked.`);
    } catch (error) {
      if (!calledOff.signal.aborted) this.site.failed("track", error, () => void this.track(direction));
    } finally {
      end();
      await showing;
      this.tracking = null;
      await this.show(last);
    }
  }

  /** End tracking after the frame that is at work. */
  async stop(): Promise<void> {
    const { tracking } = this;
    await this.api.stop(this.facts.id).catch(() => tracking?.abort());
  }

  toggleTracking(direction: "forward" | "backward"): void {
    void (this.tracking ? this.stop() : this.track(direction));
  }

  // --- what is listed

  select(id: number | null): void {
    this.film.active = id;
    this.update();
  }

  rename(id: number, name: string): void {
    this.film.objects.get(id)!.name = name;
    this.keep();
    this.update();
  }

  toggle(id: number): void {
    const object = this.film.objects.get(id)!;
    object.hidden = !object.hidden;
    this.update();
  }

  /** Forget an object, also while it is tracked. */
  remove(id: number): void {
    this.soon("remove", async () => {
      await this.api.removeObject(this.facts.id, id);
      this.film.drop(id);
    });
  }

  // --- gestures

  enabled(): boolean {
    return this.tracking === null && this.fitted;
  }

  tool(): Tool {
    const tool = this.site.tool();
    return tool === "brush" || tool === "erase" ? "add" : tool;
  }

  brushRadius(): number {
    return 0;
  }

  stroke(): void {
    // The brush is not on offer here.
  }

  /** A click adds to the object, unless it meets another one's mask: then it selects that. */
  point(at: Point, label: 0 | 1, insists: boolean): void {
    const { film } = this;
    const over = this.site.view.objectAt(at);
    const other = over === film.active ? null : over;
    if (label && !insists && other !== null) {
      this.select(other);
      announce(`${film.objects.get(other)!.name} selected.`);
      return;
    }
    if (!label && film.active === null) {
      if (other === null) {
        announce("Nothing to take away from: select an object first.");
        return;
      }
      film.active = other;
    }
    this.say((prompt) => ({ ...prompt, points: [...prompt.points, { ...at, label }] }));
    announce(label ? "Point added." : "Removing point added.");
  }

  box(box: Box): void {
    this.say((prompt) => ({ ...prompt, box }));
    announce("Box drawn.");
  }

  movePoint(index: number, to: Point): void {
    this.say((prompt) => ({
      ...prompt,
      points: prompt.points.map((point, i) => (i === index ? { ...point, ...to } : point)),
    }));
  }

  pickPoint(index: number): void {
    const { view } = this.site;
    view.picked = view.picked === index ? null : index;
    this.update();
  }

  removePoint(index: number): void {
    this.site.view.picked = null;
    this.say((prompt) => ({ ...prompt, points: prompt.points.filter((_, i) => i !== index) }));
    announce("Point deleted.");
  }

  hover(at: Point | null): void {
    const over = at && this.site.view.objectAt(at);
    const other = over !== null && over !== this.film.active;
    this.site.view.canvas.classList.toggle("selects", other && this.tool() === "add");
    this.site.view.highlight(over);
    this.site.objects.highlight(over);
  }

  /** Delete the point that is picked, or else the object. */
  removeThis(): void {
    const { picked } = this.site.view;
    if (picked !== null && !this.tracking) this.removePoint(picked);
    else if (this.film.active !== null) this.remove(this.film.active);
  }

  /** Let a click start a new object. */
  startNew(): void {
    this.site.view.picked = null;
    this.select(null);
  }

  /** Change what is said of the active object, or of a new one, on the frame that is shown. */
  private say(change: (prompt: Prompt) => Prompt): void {
    const { film, facts } = this;
    const { frame } = film;
    const id = film.active ?? film.add();
    const before = film.promptOf(frame, id);
    const prompt = change(before);
    film.setPrompt(frame, id, prompt);
    const undo = (): void => {
      film.setPrompt(frame, id, before);
      if (!film.saidOf(id).length) film.drop(id);
    };
    this.soon("point", async () => {
      if (isEmpty(prompt)) film.see(await this.api.clear(facts.id, frame, id));
      else film.see(await this.api.point(facts.id, frame, id, prompt));
      // The server forgets an object of which nothing is said.
      if (isEmpty(prompt) && !film.saidOf(id).length) film.drop(id);
    }, undo);
  }

  /** Do work when what was asked before is done. */
  private soon(what: string, work: () => Promise<void>, undo: () => void = () => undefined): void {
    this.waiting++;
    this.update();
    this.queue = this.queue.then(async () => {
      try {
        await work();
        this.site.passed(what);
      } catch (error) {
        undo();
        this.site.failed(what, error);
      } finally {
        this.waiting--;
        this.keep();
        this.update();
      }
    });
  }

  private keep(): void {
    const names = Object.fromEntries([...this.film.objects].map(([id, { name }]) => [id, name]));
    keepOpen({ id: this.facts.id, names });
  }

  private makePanel(): HTMLElement {
    const button = (kind: VideoKind, text: string): HTMLButtonElement =>
      make("button", { id: `export-${kind}`, className: "button", textContent: text, onclick: () => void this.take(kind) });
    const title = make("h2", { id: "video-title", textContent: "Video" });
    const panel = make("section", {}, title, this.status);
    panel.setAttribute("aria-labelledby", title.id);
    for (const notice of this.facts.notices) panel.append(make("p", { className: "hint note", textContent: notice }));
    panel.append(
      make("div", { className: "exports two" }, button("youtube-vis", "YouTube-VIS"), button("davis", "DAVIS PNG")),
      make("button", { id: "close-video", className: "link", textContent: "Close the video", onclick: () => this.close() }),
    );
    return panel;
  }

  private async take(kind: VideoKind): Promise<void> {
    const end = this.site.progress.start("Writing the file…");
    try {
      const { writeVideo } = await import("./video-export");
      this.site.download(await writeVideo(kind, this.facts, this.film));
      this.site.passed("export");
    } catch (error) {
      this.site.failed("export", error, () => void this.take(kind));
    } finally {
      end();
    }
  }

  /** Another video takes its place. */
  discard(): void {
    this.tracking?.abort();
    this.api.remove(this.facts.id);
    keepOpen(null);
    this.leave();
  }

  private close(): void {
    this.discard();
    this.site.closed();
  }
}

/** A picture with nothing on it. */
async function empty(): Promise<Picture> {
  const bitmap = await createImageBitmap(new ImageData(16, 16));
  return { blob: new Blob(), bitmap, small: bitmap, width: 16, height: 16 };
}
