// Small helpers around the document.

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element #${id}`);
  return element as T;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const ICONS = {
  eye: "M2 12s3.6-6.500 10-6.500S22 12 22 12s-3.600 6.500-10 6.500S2 12 2 12zM12 9.200a2.800 2.800 0 1 0 0 5.600 2.800 2.800 0 0 0 0-5.600z",
  eyeOff: "M4 4l16 16M9.500 5.800A10 10 0 0 1 12 5.500c6.400 0 10 6.500 10 6.500a17 17 0 0 1-3 3.700M6 7.400A17 17 0 0 0 2 12s3.600 6.500 10 6.500a10 10 0 0 0 4.400-1",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Make buttons with role=radio behave as one control: arrows move, one is in the tab order. */
export function radioGroup(
  group: HTMLElement,
  attribute: string,
  choose: (value: string) => void,
): (value: string) => void {
  const buttons = [...group.querySelectorAll<HTMLButtonElement>(`[data-${attribute}]`)];
  const mark = (value: string): void => {
    for (const button of buttons) {
      const on = button.dataset[attribute] === value;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
  };
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => choose(button.dataset[attribute]!));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = buttons[(i + step + buttons.length) % buttons.length]!;
      next.focus();
      choose(next.dataset[attribute]!);
    });
  });
  mark(buttons[0]!.dataset[attribute]!);
  return mark;
}

/** Say something to screen readers. */
export function announce(text: string): void {
  byId("announce").textContent = text;
}

export interface ToastAction {
  readonly label: string;
  readonly run: () => void;
}

/** Milliseconds after which messages leave, unless the pointer or the focus is on them. */
const LEAVES = { info: 6000, error: 15_000 };

/** Show a message for a while; returns what takes it away. */
export function toast(
  text: string,
  kind: "info" | "error" = "error",
  action?: ToastAction,
): () => void {
  const box = byId("toasts");
  const element = make("div", { className: `toast ${kind}` }, make("p", { textContent: text }));
  const remove = (): void => element.remove();
  if (action) {
    const button = make("button", { className: "link", textContent: action.label });
    button.onclick = () => {
      remove();
      action.run();
    };
    element.append(button);
  }
  element.append(make("button", { className: "close", textContent: "×", ariaLabel: "Dismiss", onclick: remove }));
  let timer = 0;
  const leave = (): void => {
    clearTimeout(timer);
    timer = window.setTimeout(remove, LEAVES[kind]);
  };
  const stay = (): void => clearTimeout(timer);
  element.onpointerenter = stay;
  element.onpointerleave = leave;
  element.addEventListener("focusin", stay);
  element.addEventListener("focusout", leave);
  leave();
  // The same trouble twice is one message.
  for (const old of box.children) if (old.querySelector("p")?.textContent === text) old.remove();
  box.append(element);
  while (box.children.length > 3) box.firstElementChild!.remove();
  return remove;
}
