// Videos on their way in: uploaded, chosen on the server, or still open from before. What shows one is loaded then.

import { type Api, ApiError } from "./api";
import { byId, make, toast } from "./dom";
import type { ModelInfo } from "./types";
import type { Site, VideoMode } from "./video";
import type { VideoApi, VideoFacts } from "./video-api";
import { keepOpen, keptOpen } from "./video-kept";

const NO_VIDEOS =
  "This server's model follows no objects through videos. Serve a SAM 2 that was exported with --video.";

export class Cinema {
  /** The video that is open, on the page or behind an image. */
  video: VideoMode | null = null;
  private model: ModelInfo | null = null;

  constructor(
    private readonly api: Api,
    private readonly site: Site,
  ) {
    byId("server-videos").onclick = () => void this.choose();
    byId("to-video").onclick = () => this.enter();
  }

  /** Whether a video is on the page. */
  get isOn(): boolean {
    return document.body.dataset.mode === "video";
  }

  /** The model is known: offer what it can do. */
  setModel(model: ModelInfo): void {
    this.model = model;
    const file = byId<HTMLInputElement>("file");
    file.accept = file.accept.replace(",video/*", "") + (model.video ? ",video/*" : "");
    byId("takes-videos").hidden = !model.video;
    byId("server-videos").hidden = !model.video?.folder;
  }

  async upload(file: File): Promise<void> {
    if (this.model && !this.model.video) {
      toast(NO_VIDEOS);
      return;
    }
    const most = this.model?.video?.max_bytes ?? Infinity;
    if (file.size > most) {
      toast(`${file.name} is larger than the ${Math.floor(most / 2 ** 20)} MiB that the server takes.`);
      return;
    }
    await this.open(`Sending ${file.name}…`, (api, signal) => api.upload(file, file.name, signal), () => void this.upload(file));
  }

  /** Take up the video that was open before the page was loaded again. */
  async restore(): Promise<void> {
    const kept = keptOpen();
    if (!kept || !this.model?.video) return;
    try {
      const { VideoApi, VideoMode } = await load();
      const api = new VideoApi(this.api);
      this.video = new VideoMode(api, await api.describe(kept.id), this.site, kept.names);
      this.enter();
      await this.video.restore();
      this.site.passed("video");
    } catch (error) {
      const gone = error instanceof ApiError && [404, 410].includes(error.status);
      if (gone) keepOpen(null);
      const told = gone ? new Error("The server no longer has the video that was open here. Open it again.") : error;
      this.site.failed("video", told, gone ? undefined : () => void this.restore());
    }
  }

  /** Put the open video onto the page. */
  enter(): void {
    byId("to-video").hidden = true;
    this.video?.enter();
  }

  /** An image takes the page: the video stays open behind it. */
  leave(): void {
    if (!this.isOn) return;
    this.video!.leave();
    byId("to-video").hidden = false;
  }

  /** The video was closed. */
  forget(): void {
    this.video = null;
    byId("to-video").hidden = true;
  }

  /** Offer the videos of the server's folder. */
  private async choose(): Promise<void> {
    try {
      const { VideoApi } = await load();
      const names = await new VideoApi(this.api).files();
      const list = byId("video-list");
      const dialog = byId<HTMLDialogElement>("videos");
      const row = (name: string): HTMLElement => {
        const open = make("button", { type: "button", className: "open" }, make("span", { textContent: name }));
        open.onclick = () => {
          dialog.close();
          void this.openNamed(name);
        };
        return make("li", {}, open);
      };
      const none = make("li", { className: "hint", textContent: "There are none in the server's folder." });
      list.replaceChildren(...(names.length ? names.map(row) : [none]));
      dialog.showModal();
    } catch (error) {
      this.site.failed("videos", error, () => void this.choose());
    }
  }

  private openNamed(name: string): Promise<void> {
    return this.open(`Opening ${name}…`, (api, signal) => api.openNamed(name, signal), () => void this.openNamed(name));
  }

  private async open(
    text: string,
    ask: (api: VideoApi, signal: AbortSignal) => Promise<VideoFacts>,
    retry: () => void,
  ): Promise<void> {
    const cancel = new AbortController();
    const end = this.site.progress.start(text, () => cancel.abort());
    try {
      const { VideoApi, VideoMode } = await load();
      const api = new VideoApi(this.api);
      const facts = await ask(api, cancel.signal);
      this.video?.discard();
      this.video = new VideoMode(api, facts, this.site);
      this.enter();
      this.site.passed("video");
    } catch (error) {
      if (!cancel.signal.aborted) this.site.failed("video", error, retry);
    } finally {
      end();
    }
  }
}

async function load() {
  const [{ VideoApi }, { VideoMode }] = await Promise.all([import("./video-api"), import("./video")]);
  return { VideoApi, VideoMode };
}
