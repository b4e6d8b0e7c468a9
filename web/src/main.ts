// Wires the page together.

import { Acting } from "./acting";
import { Api } from "./api";
import { Candidates } from "./candidates";
import { Cinema } from "./cinema";
import { Classes } from "./classes";
import { Backdrop } from "./colors";
import { DecoderChoice } from "./decoder-choice";
import { ServerDecoding } from "./decoding";
import { History } from "./document";
import { announce, byId, radioGroup, toast } from "./dom";
import { expectedEncoding, keepEncoding, milliseconds } from "./durations";
import { Everything } from "./everything";
import { Failures, messageOf } from "./failures";
import { dropped, sorted } from "./files";
import { Gallery } from "./gallery";
import { CursorKeys, type Gestures, Pointers, type Tool } from "./input";
import { Objects } from "./objects";
import { Progress } from "./progress";
import { Session } from "./session";
import { remember } from "./settings";
import { addShortcuts } from "./shortcuts";
import { Storage } from "./storage";
import { download, Taking } from "./taking";
import { addTheme } from "./theme";
import { showTip } from "./tip";
import { askToken } from "./token";
import type { ModelInfo } from "./types";
import { View } from "./view";
import { Workspace } from "./workspace";

const api = new Api();
api.askToken = askToken;
const history = new History();
const view = new View(byId<HTMLCanvasElement>("canvas"));
const objects = new Objects(history);
const candidates = new Candidates(history);
const classes = new Classes(history);
const progress = new Progress();
const failures = new Failures();
let model: ModelInfo | null = null;
let endEncoding = (): void => undefined;

const notice = (text: string): void => void toast(text, "info");
const failed = (what: string, error: unknown, retry?: () => void): void => failures.add(what, error, retry);
const passed = (what: string): void => failures.passed(what);

const session = new Session(
  api,
  history,
  {
    encoding(cancel) {
      byId("not-encoded").hidden = true;
      endEncoding();
      endEncoding = progress.start("Encoding…", cancel, expectedEncoding(model));
    },
    encoded(ms) {
      endEncoding();
      byId("not-encoded").hidden = session.ready;
      if (ms === null) return;
      byId("encode-ms").textContent = milliseconds(ms);
      keepEncoding(model, ms);
      // It may have been started again, with another one. Where it does not tell, that is no news.
      api.model().then(setModel, () => undefined);
    },
    prompted: (ms) => (byId("prompt-ms").textContent = milliseconds(ms)),
    hovered: (candidate) => view.setHover(candidate),
    notice,
    failed,
    passed,
  },
  new ServerDecoding(api),
);

const acting = new Acting(view, history, session, { hovered: stand, failed, passed, update });
const everything = new Everything(history, session, progress, { notice, failed, passed, update });
const taking = new Taking(session, history, classes, progress, { notice, failed, passed });
const cinema = new Cinema(api, {
  view,
  objects,
  progress,
  tool: () => acting.tool(),
  download,
  failed,
  passed,
  closed() {
    cinema.forget();
    showImage();
  },
});

const storage = new Storage();
storage.onfailure = (message) => toast(message);
const workspace = new Workspace(session, history, storage, {
  opening: (name) => progress.start(`Opening ${name}…`),
  opened({ name, picture, size }) {
    candidates.setImage(picture, size); // first: the picture of the image before is closed
    showImage();
    const backdrop = new Backdrop(picture.small);
    history.pickColor = (mask, others) => backdrop.choose(mask, others.map((s) => s.color));
    failures.clear();
    announce(`${name} is open, ${size.width} by ${size.height} pixels.`);
    view.canvas.focus({ preventScroll: true });
  },
  failed: (error) => failed("open", error),
  changed: () => gallery.update(),
  kept: (all) => (document.body.dataset.kept = String(all)),
});
const gallery = new Gallery(workspace);

/** Put the open image onto the page, where a video may have been; without one the page is empty. */
function showImage(): void {
  cinema.leave();
  objects.list(history);
  const { image } = session;
  document.body.dataset.state = image ? "open" : "empty";
  if (image) {
    const { name, size, picture } = image;
    byId("title").textContent = `${name} · ${size.width} × ${size.height}`;
    view.setImage(picture, size);
  }
  update();
}

/** Bring everything that shows the document up to date, and ask for what it lacks. */
function update(): void {
  if (cinema.isOn) {
    cinema.video!.update();
  } else {
    view.setDoc(history.doc);
    objects.update();
    showTip(history, view);
  }
  candidates.update();
  classes.update();
  everything.update();
  taking.update();
  const enable = (id: string, on: boolean): void => {
    byId<HTMLButtonElement>(id).disabled = !on;
  };
  enable("undo", history.canUndo);
  enable("redo", history.canRedo);
  enable("clear", history.doc.segments.length > 0);
  enable("auto", session.image !== null && !everything.running);
  workspace.touch();
  void session.refresh();
}
history.onchange = () => {
  acting.hover(null);
  update();
};

/** An object's row and its mask stand out together. */
function stand(id: number | null): void {
  view.highlight(id);
  objects.highlight(id);
}
objects.onhover = stand;

/** What gestures are for: the video that is on the page, or the image. */
const hands = new Proxy<Gestures>(acting, {
  get: (_, name: keyof Gestures) => {
    const target: Gestures = (cinema.isOn && cinema.video?.hands) || acting;
    return target[name].bind(target);
  },
});
new Pointers(view, hands);
new CursorKeys(view, hands);

const markTool = radioGroup(document.querySelector(".tools")!, "tool", chooseTool);
function chooseTool(tool: string): void {
  if (cinema.isOn && (tool === "brush" || tool === "erase")) return;
  acting.choose(tool as Tool);
  markTool(tool);
  if (!cinema.isOn) showTip(history, view);
}

const decoder = new DecoderChoice(api, session, { failed, passed, replaced: setModel });

/** Take files as they come: images are opened, COCO files become objects. */
function take(files: Iterable<File>, wholeFolder = false): void {
  const { images, documents, videos, others } = sorted(files);
  if (videos[0]) void cinema.upload(videos[0]);
  if (images.length) void workspace.add(images).then(() => documents.forEach(bringIn));
  else documents.forEach(bringIn);
  // A folder may hold anything; what was picked by itself was meant.
  const nothing = !images.length && !documents.length && !videos.length;
  if (others.length && (nothing || !wholeFolder)) {
    toast(`${others[0]} is not an image. Choose JPEG, PNG, WebP, BMP or GIF.`);
  } else if (nothing) {
    toast("There are no images in this folder.");
  }
}
const bringIn = (file: File): void => void taking.bringIn(file);

async function openSample(): Promise<void> {
  try {
    const response = await fetch("/sample.jpg");
    if (!response.ok) throw new Error("This server has no sample image.");
    await workspace.add([{ name: "sample.jpg", blob: await response.blob() }]);
  } catch (error) {
    toast(messageOf(error));
  }
}

const on = (id: string, run: () => void): void => byId(id).addEventListener("click", run);
function picks(id: string, wholeFolder: boolean): HTMLInputElement {
  const input = byId<HTMLInputElement>(id);
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = "";
    if (files.length) take(files, wholeFolder);
  });
  return input;
}
const file = picks("file", false);
const folder = picks("folder", true);
on("open", () => file.click());
on("pick", () => file.click());
on("open-folder", () => folder.click());
on("sample", () => void openSample());
on("encode", () => session.encode());
on("undo", () => history.undo());
on("redo", () => history.redo());
on("clear", () => history.clear());
const startNew = (): void => (cinema.isOn ? cinema.video!.hands : acting).startNew();
const removeThis = (): void => (cinema.isOn ? cinema.video!.hands.removeThis() : acting.remove());
on("add", startNew);
on("tip-new", startNew);
on("tip-point", removeThis);
on("auto", () => void everything.run());
on("zoom-in", () => view.zoom(1.4));
on("zoom-out", () => view.zoom(1 / 1.4));
on("zoom-fit", () => view.fit());
on("help", () => byId<HTMLDialogElement>("shortcuts").showModal());
view.onzoom = (percent) => (byId("zoom-level").textContent = `${percent}%`);

remember("hover", () => undefined);
remember("brush-size", () => undefined);
remember("clean", () => updateSpecks());
remember("opacity", (input) => {
  view.opacity = input.valueAsNumber;
  view.redraw();
});
function updateSpecks(): void {
  session.specks = byId<HTMLInputElement>("clean").checked ? (model?.specks ?? 0) : 0;
}

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
  if (event.dataTransfer) void dropped(event.dataTransfer).then((files) => take(files, files.length > 1));
});
window.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) take(files);
});

addTheme();
/** Do what is about images; false where a video is on the page. */
const still = (run: () => void): void => void (cinema.isOn || run());
/** Do what is about a video; false where none is on the page. */
function onVideo(run: (video: NonNullable<typeof cinema.video>) => void): boolean {
  if (cinema.isOn) run(cinema.video!);
  return cinema.isOn;
}
addShortcuts({
  chooseTool,
  undo: () => still(() => history.undo()),
  redo: () => still(() => history.redo()),
  candidate: (index) => still(() => history.choose(index)),
  label: (index) => still(() => classes.assign(index)),
  add: startNew,
  remove: removeThis,
  step: (by) => workspace.step(by),
  showImages: () => gallery.show(),
  resizeBrush: (factor) => acting.resizeBrush(factor),
  zoom: (factor) => (factor ? view.zoom(factor) : view.fit()),
  frame: (by) => onVideo((video) => video.step(by)),
  play: () => onVideo((video) => void video.play()),
  track: (direction) => onVideo((video) => video.toggleTracking(direction)),
});

/** Take up what the server serves: at the start, and again where it was started with another model. */
function setModel(found: ModelInfo): void {
  const before = model;
  model = found;
  if (JSON.stringify(before) === JSON.stringify(found)) return;
  const other = before?.model !== found.model || before.decoder?.sha256 !== found.decoder?.sha256;
  if (before && other) notice(`The server has another model now: ${found.model}.`);
  const { pred_iou_thresh: iou, stability_score_thresh: stability } = found.automatic;
  updateSpecks();
  if (other && !history.doc.search) everything.setDefaults({ iou, stability });
  decoder.setModel(found);
  cinema.setModel(found);
}

update();
const restored = workspace.restore();
api
  .model()
  .then((found) => {
    setModel(found);
    void restored.then(() => cinema.restore());
  })
  .catch((error: unknown) => failed("model", error));
