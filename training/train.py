"""Train the small checkpoint on composed scenes, for a given time on one GPU or several.

    PYTHONPATH=src python training/train.py --data .data/parts --out runs/vit_s --minutes 20
    PYTHONPATH=src torchrun --nproc-per-node 2 training/train.py ...      # two GPUs of one host

Run it again with the same arguments to go on where it stopped; `--init` starts a new run from
finished weights. The learning rate follows elapsed
training time, so that a run always ends annealed; time spent stopped or compiling does not count.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from choosing import MIN_VISIBLE
from pool import load_pool
from samtrt.choices import AttentionForm
from samtrt.models import Sam, build_sam
from samtrt.registry import get_spec
from scenes import Composer
from step import Step
from teacher import Student, Teacher

CHECKPOINT_SECONDS = 60
SYNC_STEPS = 10
EMA_DECAY = 0.999


def initialise(model: Sam) -> None:
    """Truncated normal weights, zero biases, unit norms; prompt tables and tokens of unit size."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, float(name.endswith("weight")))
        elif name.endswith(
            ("_embed.weight", "embeddings.0.weight", "token.weight", "tokens.weight")
        ) or name.startswith("prompt_encoder.point_embeddings"):
            nn.init.normal_(parameter)
        elif parameter.ndim == 2 or name.endswith("pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02)
    # The decoder's small MLPs need ordinary gain to tell masks apart from the first step.
    for name, module in model.mask_decoder.named_modules():
        if isinstance(module, nn.Linear) and ("hypernetworks" in name or "iou_pred" in name):
            nn.init.xavier_uniform_(module.weight)


def make_optimizer(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    decayed = [p for p in parameters if p.ndim in (2, 4) and p.shape[0] > 4]
    chosen = {id(p) for p in decayed}
    rest = [p for p in parameters if id(p) not in chosen]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=parameters[0].is_cuda)


def load_weights(model: Sam, path: Path) -> None:
    """Start from finished weights, such as `ema.safetensors` of an earlier run."""
    try:
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        model.load_state_dict(state, strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise SystemExit(f"--init {path}: {str(error).splitlines()[0]}") from None


def pull_of_teacher(done: float, warm: bool) -> float:
    """Share of the teacher's gradient that reaches the encoder, 0..1; `done` in 0..1.

    Finished weights come without the student's, and a new student's gradient would only disturb
    them: until 5% of the time it learns alone, then the encoder joins in, fully at 15%.
    """
    return min(1.0, max(0.0, (done - 0.05) / 0.10)) if warm else 1.0


def learning_rate(done: float, peak: float) -> float:
    """Linear warm-up over 3% of the time, then a cosine to zero; `done` in 0..1."""
    if done < 0.03:
        return peak * (done / 0.03 + 0.01)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - 0.03) / 0.97)))


class Trainer:
    """The model, its optimiser and average, and everything a resumed run needs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if args.device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        if self.world > 1:
            dist.init_process_group("nccl" if args.device == "cuda" else "gloo")
        self.device = torch.empty(0, device=args.device).device
        torch.manual_seed(args.seed)  # the same weights in every process
        self.model = build_sam(get_spec(args.model)).train()
        initialise(self.model)
        if args.init:
            load_weights(self.model, args.init)
        self.model.to(self.device)
        self.model.image_encoder.set_attention_form(AttentionForm.FOLDED)
        teacher = (
            Teacher().to(self.device, memory_format=torch.channels_last) if args.distill else None
        )
        self.student = Student(teacher.channels).to(self.device) if teacher else None
        self.parameters = [*self.model.parameters(), *(self.student or nn.Module()).parameters()]
        self.ema = {k: v.detach().clone().float() for k, v in self.model.state_dict().items()}
        self.optimizer = make_optimizer(self.parameters, args.weight_decay)
        generator = torch.Generator(self.device).manual_seed(args.seed + 1000 * self.rank)
        pool = load_pool(args.data, "train", self.device, args.limit)
        self.say(f"{len(pool.objects)} objects, {len(pool.photos)} photos, {self.device}")
        side = self.model.spec.image_size
        composer = Composer(
            pool, generator, args.real_share, args.part_share, side, args.coarse_share
        )
        self.step = Step(self.model, composer, args, teacher, self.student)
        self.steps, self.elapsed = 0, 0.0

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def prepare(self) -> None:
        """Compile and capture the step, as asked, without spending random numbers on it."""
        started, state = time.monotonic(), self.step.generator.get_state()
        if self.args.compile:
            self.step.compile()
            self.step()
            self.say(f"compiled in {time.monotonic() - started:.0f} s")
        if self.args.graph:
            self.step.capture()
            self.say(f"captured at {time.monotonic() - started:.0f} s")
        self.step.generator.set_state(state)

    def update(self) -> None:
        """One optimiser step on all processes' mean gradient, and one step of the average."""
        flat = self.step.gradients
        if self.world > 1:
            dist.all_reduce(flat)
            flat.div_(self.world)
        flat.mul_((1.0 / (flat.norm() + 1e-6)).clamp(max=1.0))
        done = self.elapsed / (self.args.minutes * 60)
        self.step.pull.fill_(pull_of_teacher(done, bool(self.args.init)))
        rate = learning_rate(done, self.args.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.steps += 1
        if self.rank == 0:
            # Random weights are soon forgotten; finished ones are as good as what follows.
            early = 1.0 if self.args.init else (1 + self.steps) / (10 + self.steps)
            decay = min(EMA_DECAY, early)
            state = self.model.state_dict()
            torch._foreach_lerp_(list(self.ema.values()), list(state.values()), 1 - decay)

    def save(self) -> None:
        """Write the resumable checkpoint and the averaged weights, each in one go."""
        states: list[Tensor | None] = [self.step.generator.get_state()] * self.world
        if self.world > 1:
            dist.all_gather_object(states, self.step.generator.get_state())
        if self.rank:
            return
        folder = self.args.out
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "student": self.student.state_dict() if self.student else {},
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "generators": states,
            "steps": self.steps,
            "elapsed": self.elapsed,
        }
        torch.save(state, folder / "checkpoint.tmp")
        (folder / "checkpoint.tmp").replace(folder / "checkpoint.pt")
        halves = {k: v.half().cpu().contiguous() for k, v in self.ema.items()}
        save_file(halves, folder / "ema.tmp", {"format": "pt"})
        (folder / "ema.tmp").replace(folder / "ema.safetensors")

    def resume(self) -> None:
        path = self.args.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if len(state["generators"]) != self.world:
            raise SystemExit(f"{path} is of {len(state['generators'])} processes, not {self.world}")
        self.model.load_state_dict(state["model"])
        if self.student:
            self.student.load_state_dict(state["student"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step.generator.set_state(state["generators"][self.rank].cpu())
        self.steps, self.elapsed = state["steps"], state["elapsed"]
        self.say(f"resumed at step {self.steps}, {self.elapsed:.0f} s")

    def tick(self, seconds: float) -> None:
        """Add to the elapsed time; all processes go by the first one's clock."""
        self.elapsed += self.by_the_first(seconds)

    def by_the_first(self, seconds: float) -> float:
        """Return what the first process says of a time, the same in all of them."""
        if self.world == 1:
            return seconds
        clock = torch.tensor(seconds, device=self.device, dtype=torch.float64)
        dist.broadcast(clock, 0)
        return float(clock)

    def end_by(self, moment: float) -> None:
        """Make the training time what is left until a moment in Unix time, by the first's clock."""
        left = self.by_the_first(moment - time.time())
        self.args.minutes = (self.elapsed + max(0.0, left)) / 60
        self.say(f"{self.args.minutes * 60:.0f} s of training end at the time that was asked for")

    def run(self) -> None:
        """Train until the time is up, saving now and then."""
        args = self.args
        self.resume()
        self.prepare()
        if args.until:
            self.end_by(args.until)
        last, saved, logged, log_time = time.monotonic(), self.elapsed, self.steps, self.elapsed
        while self.elapsed < args.minutes * 60:
            metrics = self.step()
            self.update()
            if self.steps % SYNC_STEPS:
                continue
            values = metrics.tolist()  # waits for the GPU, so the clock below is honest
            if not all(map(math.isfinite, values)):
                raise SystemExit(f"metrics are {values} at step {self.steps}; lower --lr")
            now = time.monotonic()
            self.tick(now - last)
            last = now
            if self.steps % args.log_every == 0:
                rate = (self.steps - logged) / max(1e-6, self.elapsed - log_time)
                logged, log_time = self.steps, self.elapsed
                shown = " ".join(f"{v:.3f}" for v in values[2:])
                self.say(
                    f"{self.elapsed:6.0f} s step {self.steps} loss {values[0]:.3f} distil "
                    f"{values[1]:.3f} iou {shown} {rate:.2f} step/s"
                )
            if self.elapsed - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = self.elapsed
        self.save()
        self.say(f"finished: {self.steps} steps in {self.elapsed:.0f} s")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of parts")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument("--init", type=Path, help="weights to start from, safetensors")
    parser.add_argument("--model", default="vit_s")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument(
        "--until", type=float, help="end then, in Unix time, however long compiling takes"
    )
    parser.add_argument("--batch", type=int, default=32, help="scenes a step and process")
    parser.add_argument("--masks", type=int, default=5, help="masks a scene")
    parser.add_argument(
        "--smallest", type=float, default=MIN_VISIBLE, help="masks' least share of the frame"
    )
    parser.add_argument("--echo", type=int, default=2, help="steps that use the same scene")
    parser.add_argument("--rounds", type=int, default=3, help="prompting rounds a step")
    parser.add_argument("--lr", type=float, help="peak (default: 8e-4, with --init 4e-4)")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--distill", type=float, default=1.0, help="weight of the teacher's loss")
    parser.add_argument("--real-share", type=float, default=0.3, help="photographs in a batch")
    parser.add_argument("--part-share", type=float, default=0.2, help="objects that are parts")
    parser.add_argument(
        "--coarse-share", type=float, default=0.5, help="scenes composed at two thirds of the size"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--limit", type=int, help="pictures of each kind, for a rehearsal")
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--graph", action="store_true", help="replay steps as a CUDA graph")
    args = parser.parse_args()
    if args.lr is None:
        args.lr = 4e-4 if args.init else 8e-4
    return args


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    Trainer(parse_args()).run()
