// Builds the page into the Python package, whose server sends it. `make web` runs this.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "../src/samtrt_page/static");
const runtime = join(here, "node_modules/onnxruntime-web");
const version = JSON.parse(readFileSync(join(runtime, "package.json"), "utf8")).version;

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "ort", version), { recursive: true });

await build({
  absWorkingDir: here,
  entryPoints: ["src/main.ts", "src/worker-wasm.ts", "src/worker-webgpu.ts", "src/style.css"],
  outdir: out,
  bundle: true,
  // What only some visits need (writers and readers of files) is fetched when they do.
  splitting: true,
  chunkNames: "[name]-[hash]",
  minify: true,
  format: "esm",
  target: "es2022",
  // The runtime loads its WebAssembly itself, from the files copied below.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  define: { ORT_VERSION: JSON.stringify(version) },
  legalComments: "none",
});

for (const page of ["index.html", "icon.svg"]) copyFileSync(join(here, "src", page), join(out, page));

for (const name of ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.jspi"]) {
  copyFileSync(join(runtime, "dist", `${name}.mjs`), join(out, "ort", version, `${name}.mjs`));
  const wasm = readFileSync(join(runtime, "dist", `${name}.wasm`));
  // gzip -n: no time stamp, so that the same input gives the same file.
  const packed = execFileSync("gzip", ["-9", "-n", "-c"], { input: wasm, maxBuffer: 1 << 28 });
  writeFileSync(join(out, "ort", version, `${name}.wasm.gz`), packed);
}

const fflate = readFileSync(join(here, "node_modules/fflate/LICENSE"), "utf8");
writeFileSync(
  join(out, "NOTICE.txt"),
  `ort/ holds onnxruntime-web ${version}, Copyright (c) Microsoft Corporation, MIT License:\n\n` +
    readFileSync(join(here, "onnxruntime-web.LICENSE.txt"), "utf8") +
    `\nchunk-*.js holds fflate:\n\n${fflate}`,
);

// Lets a test tell, without Node.js, that the page was built from the sources beside it.
const digest = createHash("sha256");
const sources = readdirSync(join(here, "src")).map((name) => `src/${name}`);
for (const name of [...sources, "build.mjs", "package.json"].sort()) {
  digest.update(`${name}\0`).update(readFileSync(join(here, name)));
}
writeFileSync(join(out, "sources.sha256"), `${digest.digest("hex")}\n`);
