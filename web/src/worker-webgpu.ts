import * as ort from "onnxruntime-web/jspi";
import { type Ort, serve } from "./worker";

serve(ort as unknown as Ort, "webgpu", "ort-wasm-simd-threaded.jspi");
