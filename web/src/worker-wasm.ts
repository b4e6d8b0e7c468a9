import * as ort from "onnxruntime-web/wasm";
import { type Ort, serve } from "./worker";

serve(ort as unknown as Ort, "wasm", "ort-wasm-simd-threaded");
