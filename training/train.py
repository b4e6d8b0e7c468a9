"""Train the small checkpoint on composed scenes, for a given time on one GPU.

    PYTHONPATH=src python training/train.py --data .data/parts --out runs/vit_s --minutes 20

Run it again with the same arguments to go on where it stopped. The learning rate follows elapsed
training time, so that a run always ends annealed; time spent stopped or compiling does not count.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from losses import round_loss
from prompting import corrective_point, first_prompt
from samtrt.choices import AttentionForm
from samtrt.models import Sam, build_sam
from samtrt.registry import get_spec
from scenes import Composer, Scenes, load_pool, normalise, stream

CHECKPOINT_SECONDS = 100
Decode = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def initialise(model: Sam) -> None:
    """Truncated normal weights and tables, zero biases, unit norms; convolutions as built."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, float(name.endswith("weight")))
        elif parameter.ndim == 2 or name.endswith("pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02)
    # The decoder's small MLPs need ordinary gain to tell masks apart from the first step.
    for name, module in model.mask_decoder.named_modules():
        if isinstance(module, nn.Linear) and ("hypernetworks" in name or "iou_pred" in name):
            nn.init.xavier_uniform_(module.weight)


def make_optimizer(model: Sam, weight_decay: float) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim in (2, 4) and p.shape[0] > 4]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))


def learning_rate(done: float, peak: float) -> float:
    """Linear warm-up over 3% of the time, then a cosine to zero; `done` in 0..1."""
    if done < 0.03:
        return peak * (done / 0.03 + 0.01)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - 0.03) / 0.97)))


class Trainer:
    """The model, its optimiser and average, and everything a resumed run needs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        self.model = build_sam(get_spec(args.model)).train()
        initialise(self.model)
        self.model.to(self.device)
        self.model.image_encoder.set_attention_form(AttentionForm.FOLDED)
        self.ema = {k: v.detach().clone().float() for k, v in self.model.state_dict().items()}
        self.optimizer = make_optimizer(self.model, args.weight_decay)
        self.generator = torch.Generator(self.device).manual_seed(args.seed)
        self.step, self.elapsed = 0, 0.0
        self.encode: Callable[[Tensor], Tensor] = self.model.image_encoder
        self.decode: Decode = self.model.decode
        self.loss: Callable[..., tuple[Tensor, Tensor]] = round_loss

    def compile(self) -> None:
        """Use torch.compile where it works; say so in the log where it does not."""
        plain = self.encode, self.decode, self.loss
        try:
            self.encode = torch.compile(self.encode, dynamic=False)
            self.decode = torch.compile(self.decode, dynamic=False)
            self.loss = torch.compile(self.loss, dynamic=False)
            scenes, masks, usable = self.dummy()
            self.forward_backward(scenes, masks, usable)
        except Exception as error:
            print(f"torch.compile failed, training in eager mode: {error}", flush=True)
            self.encode, self.decode, self.loss = plain
        self.optimizer.zero_grad(set_to_none=True)

    def dummy(self) -> tuple[Scenes, Tensor, Tensor]:
        """A batch of one disc each, to compile with."""
        count, masks = self.args.batch, self.args.masks
        axis = torch.arange(512, device=self.device) - 256.0
        disc = (axis[:, None] ** 2 + axis**2) < 100.0**2
        image = torch.rand(count, 3, 512, 512, device=self.device) * 255
        ids = disc.to(torch.uint8).expand(count, -1, -1)
        sizes = torch.full((count, 2), 512, device=self.device)
        scenes = Scenes(image, ids, torch.ones(count, 256, device=self.device), sizes)
        shape = (count, masks)
        usable = torch.ones(shape, dtype=torch.bool, device=self.device)
        return scenes, disc.expand(*shape, -1, -1), usable

    def forward_backward(
        self, scenes: Scenes, masks: Tensor, usable: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode once, prompt in rounds, back-propagate all; the loss and each round's mean IoU."""
        truth_full, usable = masks.flatten(0, 1), usable.flatten()
        prompts = len(truth_full)
        truth = F.avg_pool2d(truth_full[:, None].float(), 4)[:, 0]
        use_box = torch.rand(prompts, generator=self.generator, device=self.device) < 0.5
        coords, labels = first_prompt(truth_full, use_box, self.generator)
        side = truth.shape[-1]
        previous = torch.zeros(prompts, 1, side, side, device=self.device)
        has_mask = torch.zeros(prompts, device=self.device)
        total, ious = torch.zeros((), device=self.device), []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.args.bf16):
            embedding = self.encode(normalise(scenes))
            repeated = embedding.repeat_interleave(masks.shape[1], 0)
            for turn in range(self.args.rounds):
                logits, scores = self.decode(repeated, coords, labels, previous, has_mask)
                loss, mean_iou = self.loss(logits, scores, truth, usable)
                total = total + loss
                ious.append((mean_iou * usable).sum() / usable.sum().clamp(min=1))
                if turn + 1 < self.args.rounds:
                    chosen = self.answer(logits, scores, use_box, turn)
                    point, label = corrective_point(chosen, truth, self.generator)
                    coords, labels = torch.cat([coords, point], 1), torch.cat([labels, label], 1)
                    previous = chosen[:, None]
                    has_mask = torch.ones_like(has_mask)
        total.backward()
        return total.detach(), ious

    @staticmethod
    def answer(logits: Tensor, scores: Tensor, use_box: Tensor, turn: int) -> Tensor:
        """The mask a user would see: the best scored of three for one point, else mask 0."""
        logits = logits.detach().float()
        best = 1 + scores[:, 1:].argmax(1)
        index = torch.where(use_box, 0, best) if turn == 0 else torch.zeros_like(best)
        return logits[torch.arange(len(logits), device=logits.device), index]

    def update(self, done: float) -> None:
        """One optimiser step and one step of the average."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(done, self.args.lr)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(0.999, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        torch._foreach_lerp_(list(self.ema.values()), list(state.values()), 1 - decay)

    def save(self, folder: Path) -> None:
        """Write the resumable checkpoint and the averaged weights, each in one go."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        halves = {k: v.half().cpu().contiguous() for k, v in self.ema.items()}
        save_file(halves, folder / "ema.tmp", {"format": "pt"})
        (folder / "ema.tmp").replace(folder / "ema.safetensors")

    def resume(self, folder: Path) -> None:
        path = folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"resumed at step {self.step}, {self.elapsed:.0f} s", flush=True)

    def run(self) -> None:
        """Train until the time is up, saving now and then."""
        args = self.args
        pool = load_pool(args.data, "train", self.device, args.limit)
        print(f"{len(pool.objects)} objects, {len(pool.photos)} photos, {self.device}", flush=True)
        self.resume(args.out)
        if args.compile:
            state = self.generator.get_state()
            started = time.monotonic()
            self.compile()
            self.generator.set_state(state)
            print(f"compiled in {time.monotonic() - started:.0f} s", flush=True)
        data = stream(Composer(pool, self.generator), args.batch, args.masks)
        total, last, saved, logged = args.minutes * 60, time.monotonic(), self.elapsed, self.step
        log_time = self.elapsed
        while self.elapsed < total:
            loss, ious = self.forward_backward(*next(data))
            self.update(self.elapsed / total)
            if self.step % args.log_every == 0:
                value = float(loss)  # waits for the GPU, so the clock below is honest
                if not math.isfinite(value):
                    raise SystemExit(f"loss is {value} at step {self.step}; lower --lr")
            now = time.monotonic()
            self.elapsed, last = self.elapsed + now - last, now
            if self.step % args.log_every == 0:
                rate = (self.step - logged) / max(1e-6, self.elapsed - log_time)
                logged, log_time = self.step, self.elapsed
                shown = " ".join(f"{float(v):.3f}" for v in ious)
                print(
                    f"{self.elapsed:6.0f} s step {self.step} loss {value:.3f} iou {shown}"
                    f" {rate:.2f} step/s",
                    flush=True,
                )
            if self.elapsed - saved > CHECKPOINT_SECONDS:
                self.save(args.out)
                saved = self.elapsed
        self.save(args.out)
        print(f"finished: {self.step} steps in {self.elapsed:.0f} s", flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of parts")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--model", default="vit_s")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=32, help="scenes a step")
    parser.add_argument("--masks", type=int, default=5, help="masks a scene")
    parser.add_argument("--rounds", type=int, default=3, help="prompting rounds a step")
    parser.add_argument("--lr", type=float, default=8e-4, help="peak learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--limit", type=int, help="pictures of each kind, for a rehearsal")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    Trainer(parse_args()).run()
