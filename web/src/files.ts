// Files on their way in: picked, dropped, pasted; images, folders of them, videos, and COCO.

export interface Incoming {
  readonly images: { readonly name: string; readonly blob: Blob }[];
  readonly documents: File[];
  readonly videos: File[];
  /** Names of those that are neither. */
  readonly others: string[];
}

/** Names of videos whose type browsers do not tell. */
const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|m?ts|m2ts|3gp|ogv|flv|wmv|asf|mxf|ivf|y4m)$/i;

/** Sort files by what they are; those of a folder by their names. */
export function sorted(files: Iterable<File>): Incoming {
  const incoming: Incoming = { images: [], documents: [], videos: [], others: [] };
  for (const file of files) {
    if (file.type.startsWith("image/")) incoming.images.push({ name: file.name, blob: file });
    else if (file.type === "application/json" || /\.json$/i.test(file.name)) incoming.documents.push(file);
    else if (file.type.startsWith("video/") || VIDEO.test(file.name)) incoming.videos.push(file);
    // One whose name says nothing may still be an image: opening it tells.
    else if (!file.type && !/^\./.test(file.name)) incoming.images.push({ name: file.name || "pasted", blob: file });
    else incoming.others.push(file.name);
  }
  const order = new Intl.Collator(undefined, { numeric: true });
  incoming.images.sort((a, b) => order.compare(a.name, b.name));
  return incoming;
}

/** All files of a drop, also of the folders in it. */
export async function dropped(transfer: DataTransfer): Promise<File[]> {
  // Entries are gone after the first wait: take them all now.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = await Promise.all(entries.map((entry) => (entry ? within(entry) : [])));
  return found.flat();
}

async function within(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const files: File[] = [];
  // A reader gives a hundred at a time.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return files;
    for (const one of some) files.push(...(await within(one)));
  }
}
