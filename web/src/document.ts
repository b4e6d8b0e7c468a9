// What the user has made: objects and their masks, with undo. Every value is immutable.

import type { Candidate, Prompt } from "./types";
import { EMPTY_PROMPT, isEmpty } from "./types";

export interface Segment {
  readonly id: number;
  readonly name: string;
  readonly color: number;
  readonly prompt: Prompt;
  readonly candidates: readonly Candidate[];
  readonly chosen: number;
  readonly hidden: boolean;
  /** The prompt has changed and its candidates are not here yet. */
  readonly stale: boolean;
}

export interface Doc {
  readonly segments: readonly Segment[];
  readonly active: number;
}

export function maskOf(segment: Segment): Candidate | undefined {
  return segment.candidates[segment.chosen];
}

export class History {
  private past: Doc[] = [];
  private future: Doc[] = [];
  private current: Doc;
  private nextId = 1;
  onchange: () => void = () => undefined;

  constructor() {
    this.current = this.fresh();
  }

  get doc(): Doc {
    return this.current;
  }

  get active(): Segment {
    return this.current.segments.find((s) => s.id === this.current.active)!;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  reset(): void {
    this.past = [];
    this.future = [];
    this.nextId = 1;
    this.current = this.fresh();
    this.onchange();
  }

  undo(): void {
    this.travel(this.past, this.future);
  }

  redo(): void {
    this.travel(this.future, this.past);
  }

  /** Take a step that undo returns from. */
  commit(doc: Doc): void {
    this.past.push(this.current);
    this.future = [];
    this.replace(doc);
  }

  /** Change the present without a step: results that arrive, selection, names, visibility. */
  replace(doc: Doc): void {
    this.current = doc;
    this.onchange();
  }

  setPrompt(prompt: Prompt): void {
    this.commit(this.patched(this.active.id, isEmpty(prompt)
      ? { prompt, candidates: [], chosen: 0, stale: false }
      : { prompt, stale: true }));
  }

  /** Put results in, unless the prompt has changed since they were asked for. */
  setCandidates(prompt: Prompt, candidates: readonly Candidate[]): void {
    const segment = this.current.segments.find((s) => s.prompt === prompt);
    if (!segment) return;
    // With four (two where a model gives the best of three alone), the first is the single answer to
    // a prompt that is not ambiguous.
    const chosen = candidates.length % 2 === 0 ? 0 : indexOfBest(candidates);
    this.replace(this.patched(segment.id, { candidates, chosen, stale: false }));
  }

  choose(index: number): void {
    const { candidates, chosen, id } = this.active;
    if (index === chosen || index >= candidates.length) return;
    this.commit(this.patched(id, { chosen: index }));
  }

  select(id: number): void {
    this.replace({ ...this.current, active: id });
  }

  rename(id: number, name: string): void {
    this.replace(this.patched(id, { name }));
  }

  toggle(id: number): void {
    const segment = this.current.segments.find((s) => s.id === id)!;
    this.replace(this.patched(id, { hidden: !segment.hidden }));
  }

  /** Start another object; an empty one that is there already serves. */
  add(): void {
    const empty = this.current.segments.find((s) => isEmpty(s.prompt) && !s.candidates.length);
    if (empty) this.select(empty.id);
    else {
      const segment = this.newSegment();
      this.commit({ segments: [...this.current.segments, segment], active: segment.id });
    }
  }

  /** Add finished masks as objects of their own, in one step. */
  addMasks(masks: readonly Candidate[]): void {
    const kept = this.current.segments.filter((s) => !isEmpty(s.prompt) || s.candidates.length);
    const added = masks.map((mask) => ({ ...this.newSegment(), candidates: [mask] }));
    const last = this.newSegment();
    this.commit({ segments: [...kept, ...added, last], active: last.id });
  }

  remove(id: number): void {
    const left = this.current.segments.filter((s) => s.id !== id);
    const segments = left.length ? left : [this.newSegment()];
    const active = id === this.current.active ? segments[segments.length - 1]!.id : this.current.active;
    this.commit({ segments, active });
  }

  clear(): void {
    if (this.current.segments.every((s) => isEmpty(s.prompt) && !s.candidates.length)) return;
    const segment = this.newSegment();
    this.commit({ segments: [segment], active: segment.id });
  }

  private fresh(): Doc {
    const segment = this.newSegment();
    return { segments: [segment], active: segment.id };
  }

  private newSegment(): Segment {
    const id = this.nextId++;
    return {
      id,
      name: `Object ${id}`,
      color: id - 1,
      prompt: EMPTY_PROMPT,
      candidates: [],
      chosen: 0,
      hidden: false,
      stale: false,
    };
  }

  private patched(id: number, change: Partial<Segment>): Doc {
    return {
      ...this.current,
      segments: this.current.segments.map((s) => (s.id === id ? { ...s, ...change } : s)),
    };
  }

  private travel(from: Doc[], to: Doc[]): void {
    const doc = from.pop();
    if (!doc) return;
    to.push(this.current);
    this.replace(doc);
  }
}

function indexOfBest(candidates: readonly Candidate[]): number {
  return candidates.reduce((best, c, i) => (c.score > candidates[best]!.score ? i : best), 0);
}
