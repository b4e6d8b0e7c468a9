// The dialog that asks for the server's token.

import { byId } from "./dom";

/** Ask for it; null when the user declines. `wrong` where one was given and not accepted. */
export function askToken(wrong: boolean): Promise<string | null> {
  const dialog = byId<HTMLDialogElement>("token");
  const input = byId<HTMLInputElement>("token-input");
  if (wrong) byId("token-text").textContent = "The server did not accept this token.";
  input.value = "";
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "ok" && input.value ? input.value : null),
      { once: true },
    );
  });
}
