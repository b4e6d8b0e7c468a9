// Where prompts are decoded: on the server, or in the browser.

import type { Api } from "./api";
import { BrowserDecoding, ServerDecoding } from "./decoding";
import { byId, radioGroup } from "./dom";
import type { Session } from "./session";
import type { ModelInfo } from "./types";

/** The checkpoint that comes with the package. */
const SMALL_MODEL = "vit_s.safetensors";

export interface DecoderEvents {
  failed(what: string, error: unknown, retry: () => void): void;
  passed(what: string): void;
  /** The server turned out to have another model. */
  replaced(model: ModelInfo): void;
}

export class DecoderChoice {
  private model: ModelInfo | null = null;
  private readonly mark: (value: string) => void;
  private replacing: Promise<void> | null = null;

  constructor(
    private readonly api: Api,
    private readonly session: Session,
    private readonly events: DecoderEvents,
  ) {
    this.mark = radioGroup(document.querySelector(".switch")!, "decoder", (value) => void this.choose(value));
  }

  setModel(model: ModelInfo): void {
    const other = this.model?.decoder?.sha256 !== model.decoder?.sha256;
    this.model = model;
    if (other && this.session.decoding instanceof BrowserDecoding) {
      this.replace(model).catch((error: unknown) => this.events.failed("decoder", error, () => this.setModel(model)));
    }
    document.querySelector<HTMLButtonElement>("[data-decoder=browser]")!.disabled = !model.decoder;
    this.describe();
  }

  private async choose(value: string): Promise<void> {
    const { api, session, events } = this;
    const old = session.decoding;
    if (value === (old instanceof BrowserDecoding ? "browser" : "server")) return;
    try {
      if (value === "browser") {
        this.model ??= await api.model();
        byId("decoder").textContent = "Loading the decoder…";
        session.decoding = await this.start(this.model);
      } else {
        session.decoding = new ServerDecoding(api);
        if (old instanceof BrowserDecoding) old.stop();
      }
      this.mark(value);
      events.passed("decoder");
    } catch (error) {
      events.failed("decoder", error, () => void this.choose(value));
    }
    this.describe();
  }

  private start(model: ModelInfo): Promise<BrowserDecoding> {
    return BrowserDecoding.start(this.api, model, (found) => this.replace(found));
  }

  /** Decode with the model that the server has now. */
  private replace(model: ModelInfo): Promise<void> {
    this.replacing ??= this.change(model).finally(() => (this.replacing = null));
    return this.replacing;
  }

  private async change(model: ModelInfo): Promise<void> {
    const { api, session } = this;
    const old = session.decoding;
    session.decoding = model.decoder ? await this.start(model) : new ServerDecoding(api);
    if (old instanceof BrowserDecoding) old.stop();
    this.model = model;
    this.mark(model.decoder ? "browser" : "server");
    this.events.replaced(model);
    this.describe();
  }

  private describe(): void {
    const { decoding } = this.session;
    const { model } = this;
    const where =
      decoding instanceof BrowserDecoding ? `Decoded in this browser (${decoding.label}).` : decoding.label;
    const what = model ? ` ${model.model}, ${model.precision}, ${model.backend} on ${model.device}.` : "";
    byId("decoder").textContent = where + what;
    byId("small-model").hidden = model?.checkpoint !== SMALL_MODEL;
  }
}
