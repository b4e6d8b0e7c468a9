// A video on the page: pointed at on any frame, tracked while one watches, corrected, taken away as files.

import { announce, byId } from "./dom";
import { Film } from "./film";
import { LONGEST } from "./frames";
import type { Tool } from "./input";
import type { Listed, Objects } from "./objects";
import type { Picture } from "./pictures";
import { Player } from "./player";
import type { Progress } from "./progress";
import { Saying } from "./saying";
import { Timeline } from "./timeline";
import { VideoActing } from "./video-acting";
import type { VideoApi, VideoFacts } from "./video-api";
import type { VideoKind } from "./video-export";
import { keepOpen, type Kept } from "./video-kept";
import { VideoPanel } from "./video-panel";
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

export class VideoMode implements Listed {
  /** What gestures on the canvas do. */
  readonly hands: VideoActing;
  private readonly film = new Film();
  private readonly player: Player;
  private readonly timeline: Timeline;
  private readonly panel: VideoPanel;
  private readonly saying: Saying;
  private tracking: AbortController | null = null;
  /** Whether the server has been asked to track, and whether the user has asked to stop that. */
  private asking = false;
  private stopping = false;
  private shown = false;
  private fitted = false;
  private closed = false;

  constructor(
    private readonly api: VideoApi,
    private readonly facts: VideoFacts,
    private readonly site: Site,
    names: Kept["names"] = {},
  ) {
    this.saying = new Saying(api, facts.id, this.film, {
      failed: (what, error) => this.closed || site.failed(what, error),
      passed: (what) => site.passed(what),
      changed: () => {
        this.keep();
        this.update();
      },
    });
    this.hands = new VideoActing(site.view, this.film, this.saying, site.objects, {
      enabled: () => this.tracking === null && this.fitted,
      tool: () => site.tool(),
      update: () => this.update(),
    });
    this.player = new Player(this.film, facts.times, (frame) => api.frame(facts.id, frame, LONGEST), {
      shown: (picture) => this.draw(picture),
      failed: (error, retry) => this.closed || site.failed("frame", error, retry),
      passed: () => site.passed("frame"),
      changed: () => this.update(),
    });
    this.timeline = new Timeline(this.film, facts.times, {
      go: (frame) => void this.player.show(frame),
      step: (by) => this.step(by),
      play: () => void this.play(),
      track: (direction) => void this.track(direction),
      stop: () => void this.stop(),
    });
    this.panel = new VideoPanel(this.film, facts, (kind) => void this.take(kind), () => this.close());
    for (const { frame, object, prompt } of facts.prompts) {
      if (!this.film.objects.has(object)) this.film.add(object);
      this.film.setPrompt(frame, object, prompt);
    }
    for (const [id, name] of Object.entries(names)) {
      const object = this.film.objects.get(Number(id));
      if (object) object.name = name;
    }
    this.film.active = null;
  }

  get doc() {
    return this.film.doc;
  }

  /** Take up the masks that the server has found before. */
  async restore(): Promise<void> {
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
    document.querySelector("aside")!.append(this.panel.element);
    const { name, size, times } = this.facts;
    byId("title").textContent = `${name} · ${size.width} × ${size.height} · ${times.length} frames`;
    this.site.objects.list(this);
    // Here when it is needed, though the server may be gone by then.
    import("./video-export").catch(() => undefined);
    void this.player.show(this.film.frame);
    this.keep();
  }

  /** Take it off the page; it stays as it is. */
  leave(): void {
    this.shown = false;
    this.player.halt();
    delete document.body.dataset.mode;
    delete document.body.dataset.video;
    this.timeline.element.remove();
    this.panel.element.remove();
  }

  /** Bring everything that shows the video up to date. */
  update(): void {
    if (!this.shown) return;
    const { film, site } = this;
    site.view.setDoc(film.doc);
    site.objects.update();
    this.timeline.update(this.tracking !== null, this.player.playing);
    this.panel.update();
    document.body.dataset.video = this.tracking ? "tracking" : this.saying.busy ? "busy" : "idle";
    this.showTip();
  }

  step(by: number): void {
    if (!this.tracking) this.player.step(by);
  }

  async play(): Promise<void> {
    if (!this.tracking) await this.player.play();
  }

  /** The line at the foot of the picture: what a click would do now. */
  private showTip(): void {
    const { film, site, tracking } = this;
    const active = film.active === null ? null : film.objects.get(film.active)!;
    const picked = site.view.picked !== null && active !== null;
    byId("tip-text").textContent = tracking
      ? "Tracking: stop to correct"
      : picked
        ? "Point: drag it, or"
        : active
          ? `Clicks refine ${active.name} on this frame ·`
          : film.objects.size
            ? "Click a mask to select it, or something new"
            : "Click an object, or drag a box around it";
    byId("tip-point").hidden = !picked;
    byId("tip-new").hidden = picked || !active || tracking !== null;
  }

  private draw(picture: Picture): void {
    if (!this.shown) return;
    const { view } = this.site;
    view.picked = null;
    if (this.fitted) view.setFrame(picture);
    else view.setImage(picture, this.facts.size);
    this.fitted = true;
    this.update();
  }

  /** Track from the frame that is shown, and show what is found as it comes. */
  async track(direction: "forward" | "backward"): Promise<void> {
    if (this.tracking || !this.film.objects.size) return;
    const calledOff = (this.tracking = new AbortController());
    this.player.playing = false;
    this.stopping = this.asking = false;
    this.update();
    const end = this.site.progress.start("Tracking…", () => void this.stop());
    await this.saying.settled();
    let [count, last, showing] = [0, this.film.frame, Promise.resolve()];
    let busy = false;
    const asked = { start: this.film.frame, direction };
    try {
      if (this.stopping) return; // while what was said before was still on its way
      this.asking = true;
      for await (const seen of this.api.track(this.facts.id, asked, calledOff.signal)) {
        this.film.see(seen);
        count++;
        last = seen.frame;
        if (count === 1 && this.stopping) void this.stop(); // it may have come before the server had begun
        if (busy) continue; // a picture is on its way
        busy = true;
        showing = this.player.show(last).finally(() => (busy = false));
      }
      this.site.passed("track");
      announce(`${count} frames tracked.`);
    } catch (error) {
      if (!calledOff.signal.aborted) this.site.failed("track", error, () => void this.track(direction));
    } finally {
      end();
      await showing;
      this.tracking = null;
      if (!this.closed) await this.player.show(last);
    }
  }

  /** End tracking after the frame that is at work. */
  async stop(): Promise<void> {
    const { tracking } = this;
    this.stopping = true;
    if (this.asking) await this.api.stop(this.facts.id).catch(() => tracking?.abort());
  }

  toggleTracking(direction: "forward" | "backward"): void {
    void (this.tracking ? this.stop() : this.track(direction));
  }

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

  remove(id: number): void {
    this.saying.remove(id);
  }

  private keep(): void {
    if (this.closed) return;
    const names = Object.fromEntries([...this.film.objects].map(([id, { name }]) => [id, name]));
    keepOpen({ id: this.facts.id, names });
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
    this.closed = true;
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
