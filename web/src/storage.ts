// What the browser keeps between visits, in IndexedDB: images that were opened, and work on them.

import type { Saved } from "./document";

export interface KeptImage {
  readonly hash: string;
  readonly name: string;
  readonly blob: Blob;
  /** When it was opened last, in milliseconds since 1970. */
  readonly opened: number;
}

interface KeptWork {
  readonly hash: string;
  readonly saved: Saved;
  /** Objects with masks, to be told in lists. */
  readonly count: number;
}

/** Bytes of images that are kept; the work on them stays when they go. */
const MOST_BYTES = 512 * 1024 * 1024;

export class Storage {
  private database: Promise<IDBDatabase> | null = null;

  /** Told once of a failure: the page goes on without keeping anything. */
  onfailure: (message: string) => void = () => undefined;

  async work(hash: string): Promise<KeptWork | null> {
    return (await this.run<KeptWork>("work", "readonly", (s) => s.get(hash))) ?? null;
  }

  async putWork(hash: string, saved: Saved, count: number): Promise<void> {
    await this.run("work", "readwrite", (s) => s.put({ hash, saved, count } satisfies KeptWork));
  }

  /** All images that are kept, by the time they were first opened. */
  async images(): Promise<KeptImage[]> {
    return (await this.run<KeptImage[]>("images", "readonly", (s) => s.getAll())) ?? [];
  }

  /** Keep an image, and let go of those opened longest ago where there are too many bytes. */
  async putImage(image: KeptImage): Promise<void> {
    if (image.blob.size > MOST_BYTES) return;
    const others = (await this.images()).filter(({ hash }) => hash !== image.hash);
    let room = MOST_BYTES - image.blob.size;
    for (const old of others.sort((a, b) => b.opened - a.opened)) {
      room -= old.blob.size;
      if (room < 0) await this.forgetImage(old.hash);
    }
    await this.run("images", "readwrite", (s) => s.put(image));
  }

  async forgetImage(hash: string): Promise<void> {
    await this.run("images", "readwrite", (s) => s.delete(hash));
  }

  private async run<T>(
    store: "work" | "images",
    mode: IDBTransactionMode,
    action: (store: IDBObjectStore) => IDBRequest,
  ): Promise<T | null> {
    try {
      this.database ??= open();
      const transaction = (await this.database).transaction(store, mode);
      const request = action(transaction.objectStore(store));
      await new Promise<void>((resolve, reject) => {
        transaction.oncomplete = () => resolve();
        transaction.onerror = transaction.onabort = () => reject(transaction.error ?? request.error);
      });
      return request.result as T;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.onfailure(`This browser does not keep your work: ${why}. Export it before you leave.`);
      this.onfailure = () => undefined;
      return null;
    }
  }
}

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("samtrt", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("work", { keyPath: "hash" });
      request.result.createObjectStore("images", { keyPath: "hash" });
    };
    request.onsuccess = () => {
      // Another tab with a newer page must not wait for this one.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
}
