// Wires the page together.

import { Api, ApiError } from "./api";
import { BrowserDecoding, ServerDecoding } from "./decoding";
import { maskOf } from "./document";
import { History } from "./document";
import { announce, byId, radioGroup, toast } from "./dom";
import { cocoFile, cutoutPng, download, fileName, maskPng } from "./exporting";
import { CursorKeys, type Gestures, Pointers, type Tool } from "./input";
import { Panel } from "./panel";
import { Session } from "./session";
import { addShortcuts } from "./shortcuts";
import { addTheme } from "./theme";
import type { ModelInfo } from "./types";
import { EMPTY_PROMPT, isEmpty } from "./types";
import { View } from "./view";

const api = new Api();
const history = new History();
const view = new View(byId<HTMLCanvasElement>("canvas"));
const panel = new Panel(history);
const session = new Session(
  api,
  history,
  {
    progress: (text) => showProgress(text),
    opened: ({ name, picture, ref }) => {
      document.body.dataset.state = "open";
      byId("title").textContent = `${name} · ${ref.size.width} × ${ref.size.height}`;
      view.setImage(picture, ref.size);
      panel.setImage(picture, ref.size);
      update();
      announce(`${name} is open, ${ref.size.width} by ${ref.size.height} pixels.`);
      view.canvas.focus({ preventScroll: true });
    },
    encoded: (ms) => (byId("encode-ms").textContent = milliseconds(ms)),
    prompted: (ms) => (byId("prompt-ms").textContent = milliseconds(ms)),
    hovered: (candidate) => view.setHover(candidate, history.active.color),
    notice: (text) => toast(text, "info"),
    failed: (error, retry) => {
      const again = !(error instanceof ApiError) || error.status !== 422;
      toast(messageOf(error), "error", again ? { label: "Retry", run: retry } : undefined);
    },
  },
  new ServerDecoding(api, "Each prompt is decoded by the server."),
);

let tool: Tool = "add";
let model: ModelInfo | null = null;
let autoRun: AbortController | null = null;

function milliseconds(ms: number): string {
  return `${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function showProgress(text: string | null): void {
  byId("progress").hidden = text === null;
  byId("progress-text").textContent = text ?? "";
  byId("cancel").hidden = autoRun === null;
}

/** Bring everything that shows the document up to date, and ask for what it lacks. */
function update(): void {
  view.setDoc(history.doc);
  panel.update();
  const masks = history.doc.segments.some(maskOf);
  const { prompt, candidates } = history.active;
  const set = (id: string, enabled: boolean): void => {
    byId<HTMLButtonElement>(id).disabled = !enabled;
  };
  set("undo", history.canUndo);
  set("redo", history.canRedo);
  set("clear", masks || !isEmpty(prompt));
  set("auto", session.image !== null && autoRun === null);
  set("export-mask", candidates.length > 0);
  set("export-cutout", candidates.length > 0);
  set("export-coco", masks);
  void session.refresh();
}
history.onchange = () => {
  session.setHover(null);
  if (session.image) update();
};

const gestures: Gestures = {
  enabled: () => session.image !== null,
  tool: () => tool,
  point: (at, label) => {
    const { points, box } = history.active.candidates.length && isEmpty(history.active.prompt)
      ? startAnew()
      : history.active.prompt;
    history.setPrompt({ points: [...points, { ...at, label }], box });
    announce(label ? "Point added." : "Removing point added.");
  },
  box: (box) => {
    const { points } = history.active.candidates.length && isEmpty(history.active.prompt)
      ? startAnew()
      : history.active.prompt;
    history.setPrompt({ points, box });
    announce("Box drawn.");
  },
  hover: (at) => {
    const wanted = at && byId<HTMLInputElement>("hover").checked;
    session.setHover(wanted && !history.active.candidates.length ? at : null);
  },
};
new Pointers(view, gestures);
new CursorKeys(view, gestures);

/** A mask that was found automatically has no prompt to add to: a click begins a new object. */
function startAnew(): typeof EMPTY_PROMPT {
  history.add();
  return history.active.prompt;
}

const markTool = radioGroup(document.querySelector(".tools")!, "tool", chooseTool);
function chooseTool(value: string): void {
  tool = value as Tool;
  document.body.dataset.tool = value;
  markTool(value);
}

const markDecoder = radioGroup(document.querySelector(".switch")!, "decoder", (value) => {
  void chooseDecoder(value);
});
async function chooseDecoder(value: string): Promise<void> {
  const old = session.decoding;
  if (value === (old instanceof BrowserDecoding ? "browser" : "server")) return;
  try {
    if (value === "browser") {
      model ??= await api.model();
      byId("decoder").textContent = "Loading the decoder…";
      session.decoding = await BrowserDecoding.start(api, model);
    } else {
      session.decoding = new ServerDecoding(api, "Each prompt is decoded by the server.");
      if (old instanceof BrowserDecoding) old.stop();
    }
    markDecoder(value);
  } catch (error) {
    toast(messageOf(error), "error", { label: "Retry", run: () => void chooseDecoder(value) });
  }
  describeDecoder();
}

function describeDecoder(): void {
  const { decoding } = session;
  const where =
    decoding instanceof BrowserDecoding
      ? `Decoded in this browser (${decoding.label}).`
      : decoding.label;
  const what = model ? ` ${model.model}, ${model.precision}, ${model.backend} on ${model.device}.` : "";
  byId("decoder").textContent = where + what;
}

async function runAuto(): Promise<void> {
  autoRun = new AbortController();
  update();
  await session.auto(Number(byId<HTMLSelectElement>("grid").value), autoRun.signal);
  autoRun = null;
  update();
}

async function exportMask(kind: "mask" | "cutout"): Promise<void> {
  const { image } = session;
  const mask = maskOf(history.active);
  if (!image || !mask) return;
  const { size } = image.ref;
  try {
    const blob =
      kind === "mask"
        ? await maskPng(mask.runs, size)
        : await cutoutPng(image.blob, mask.runs, size);
    download(blob, fileName(image.name, `${history.active.name} ${kind}`, "png"));
  } catch (error) {
    toast(messageOf(error));
  }
}

function exportCoco(): void {
  const { image } = session;
  if (!image) return;
  download(
    cocoFile(history.doc, image.name, image.ref.size),
    fileName(image.name, "", "json"),
  );
}

function openFile(file: Blob | null | undefined): void {
  if (!file) return;
  if (file.type && !file.type.startsWith("image/")) {
    toast("This is not an image. Choose a JPEG, PNG, WebP, BMP or GIF.");
  } else {
    void session.open(file, file instanceof File ? file.name : "pasted.png");
  }
}

async function openSample(): Promise<void> {
  try {
    const response = await fetch("/sample.jpg");
    if (!response.ok) throw new Error("This server has no sample image.");
    await session.open(await response.blob(), "sample.jpg");
  } catch (error) {
    toast(messageOf(error));
  }
}

function clearPrompt(): void {
  if (!isEmpty(history.active.prompt)) history.setPrompt(EMPTY_PROMPT);
}

const on = (id: string, run: () => void): void => byId(id).addEventListener("click", run);
const file = byId<HTMLInputElement>("file");
on("open", () => file.click());
on("pick", () => file.click());
file.addEventListener("change", () => {
  openFile(file.files?.[0]);
  file.value = "";
});
on("sample", () => void openSample());
on("undo", () => history.undo());
on("redo", () => history.redo());
on("clear", () => history.clear());
on("add", () => history.add());
on("auto", () => void runAuto());
on("cancel", () => autoRun?.abort());
on("export-mask", () => void exportMask("mask"));
on("export-cutout", () => void exportMask("cutout"));
on("export-coco", exportCoco);
on("zoom-in", () => view.zoom(1.4));
on("zoom-out", () => view.zoom(1 / 1.4));
on("zoom-fit", () => view.fit());
on("help", () => byId<HTMLDialogElement>("shortcuts").showModal());
view.onzoom = (percent) => (byId("zoom-level").textContent = `${percent}%`);

window.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
window.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
window.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  openFile(event.dataTransfer?.files[0]);
});
window.addEventListener("paste", (event) => openFile(event.clipboardData?.files[0]));

addTheme();
addShortcuts({
  chooseTool,
  undo: () => history.undo(),
  redo: () => history.redo(),
  candidate: (index) => history.choose(index),
  add: () => history.add(),
  remove: () => history.remove(history.active.id),
  clearPrompt,
  zoom: (factor) => (factor ? view.zoom(factor) : view.fit()),
});

api.askToken = (wrong) => {
  const dialog = byId<HTMLDialogElement>("token");
  const input = byId<HTMLInputElement>("token-input");
  if (wrong) byId("token-text").textContent = "The server did not accept this token.";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "ok" && input.value ? input.value : null),
      { once: true },
    );
  });
};

panel.update();
api
  .model()
  .then((found) => {
    model = found;
    document.querySelector<HTMLButtonElement>("[data-decoder=browser]")!.disabled = !found.decoder;
    describeDecoder();
  })
  .catch((error: unknown) => toast(messageOf(error)));
