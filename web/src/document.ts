// What the user has made of one image: objects and their masks, with undo. Every value is immutable.

import { passing } from "./filtering";
import type { Candidate, Found, Mask, Prompt, Thresholds } from "./types";
import { EMPTY_PROMPT, isEmpty } from "./types";

export interface Segment {
  readonly id: number;
  readonly name: string;
  /** Name of its class; empty where it has none. */
  readonly label: string;
  readonly color: number;
  readonly prompt: Prompt;
  readonly candidates: readonly Candidate[];
  readonly chosen: number;
  readonly hidden: boolean;
  /** The prompt has changed and its candidates are not here yet. */
  readonly stale: boolean;
  /** Its number in the search that found it. */
  readonly found?: number;
  /** Changed by the user since it was found: the search's filters leave it alone. */
  readonly kept?: boolean;
}

/** All masks of an automatic search, of which the thresholds let some be objects. */
export interface Search extends Thresholds {
  readonly found: readonly Found[];
  /** Numbers of those that the user deleted. */
  readonly dropped: readonly number[];
}

/** Objects, each of which has a prompt or a mask; with none active, a click starts a new one. */
export interface Doc {
  readonly segments: readonly Segment[];
  readonly active: number | null;
  readonly search: Search | null;
}

/** A document with the way to it, as it is kept for the next visit. */
export interface Saved {
  readonly past: readonly Doc[];
  readonly current: Doc;
  readonly future: readonly Doc[];
}

const EMPTY: Doc = { segments: [], active: null, search: null };
/** Steps that undo goes back. */
const STEPS = 200;

export function maskOf(segment: Segment): Candidate | undefined {
  return segment.candidates[segment.chosen];
}

/** What an object counts as in files: its class, or else its name. */
export function categoryOf(segment: Segment): string {
  return segment.label || segment.name;
}

export class History {
  private past: Doc[] = [];
  private future: Doc[] = [];
  private current = EMPTY;
  private nextId = 1;
  onchange: () => void = () => undefined;
  /** Choose the colour of an object that gets its first mask. */
  pickColor: (mask: Mask, others: readonly Segment[]) => number = (_, others) => others.length;

  get doc(): Doc {
    return this.current;
  }

  get active(): Segment | null {
    return this.find(this.current.active);
  }

  find(id: number | null): Segment | null {
    return this.current.segments.find((s) => s.id === id) ?? null;
  }

  /** The active object's, or the empty one that a new object begins with. */
  get prompt(): Prompt {
    return this.active?.prompt ?? EMPTY_PROMPT;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  get saved(): Saved {
    return { past: this.past, current: this.current, future: this.future };
  }

  /** Take up what was saved of an image; nothing was where it is new. The caller tells of it. */
  load(saved: Saved | null): void {
    this.past = [...(saved?.past ?? [])];
    this.future = [...(saved?.future ?? [])];
    this.current = saved?.current ?? EMPTY;
    const all = [...this.past, this.current, ...this.future].flatMap((doc) => doc.segments);
    this.nextId = 1 + all.reduce((most, { id }) => Math.max(most, id), 0);
  }

  undo(): void {
    this.travel(this.past, this.future);
  }

  redo(): void {
    this.travel(this.future, this.past);
  }

  /** Take a step that undo returns from. */
  private commit(doc: Doc): void {
    this.past.push(this.current);
    if (this.past.length > STEPS) this.past.shift();
    this.future = [];
    this.replace(doc);
  }

  /** Change the present without a step: results that arrive, selection, visibility. */
  private replace(doc: Doc): void {
    this.current = doc;
    this.onchange();
  }

  /** Give the active object, or a new one, another prompt; without any it is no object. */
  setPrompt(prompt: Prompt): void {
    const { active } = this;
    if (!active) {
      if (!isEmpty(prompt)) this.begin({ prompt, stale: true });
    } else if (isEmpty(prompt)) {
      this.remove(active.id);
    } else {
      // What was painted is from now on only what the model starts from.
      const candidates = active.candidates.map((c) => ({ ...c, edited: false }));
      this.commit(this.patched(active.id, { prompt, candidates, stale: true, kept: true }));
    }
  }

  /** Make what was painted the mask of an object, or of a new one. */
  setPainted(id: number | null, mask: Mask): void {
    const segment = this.find(id);
    const change = {
      prompt: { ...(segment?.prompt ?? EMPTY_PROMPT), mask },
      candidates: [{ ...mask, score: 1, edited: true }],
      chosen: 0,
      stale: true,
      kept: true,
    };
    if (segment) this.commit(this.patched(segment.id, change));
    else this.begin(change);
  }

  /** Put results in, unless the prompt has changed since they were asked for. */
  setCandidates(prompt: Prompt, candidates: readonly Candidate[]): void {
    const segment = this.current.segments.find((s) => s.prompt === prompt);
    if (!segment) return;
    // What the user painted stays; what the model makes of it is a choice beside it.
    const painted = segment.candidates.filter((c) => c.edited);
    const all = [...painted, ...candidates];
    // With four (two where a model gives the best of three alone), the first is the single answer to
    // a prompt that is not ambiguous.
    const chosen = painted.length || candidates.length % 2 === 0 ? 0 : indexOfBest(candidates);
    const first = segment.candidates.length === 0 && all[chosen];
    const others = this.current.segments.filter((s) => s.id !== segment.id);
    const color = first ? this.pickColor(first, others) : segment.color;
    this.replace(this.patched(segment.id, { candidates: all, chosen, color, stale: false }));
  }

  choose(index: number): void {
    const { active } = this;
    if (!active || index === active.chosen || index >= active.candidates.length) return;
    this.commit(this.patched(active.id, { chosen: index, kept: true }));
  }

  /** Make an object the active one; null lets a click start a new one. */
  select(id: number | null): void {
    if (id !== this.current.active) this.replace({ ...this.current, active: id });
  }

  rename(id: number, name: string): void {
    this.commit(this.patched(id, { name, kept: true }));
  }

  /** Give an object a class; what has it already loses it. */
  setLabel(id: number, label: string): void {
    const segment = this.current.segments.find((s) => s.id === id);
    const next = segment?.label === label ? "" : label;
    this.commit(this.patched(id, { label: next, kept: true }));
  }

  toggle(id: number): void {
    const segment = this.current.segments.find((s) => s.id === id)!;
    this.replace(this.patched(id, { hidden: !segment.hidden }));
  }

  remove(id: number): void {
    const { segments, search, active } = this.current;
    const found = segments.find((s) => s.id === id)?.found;
    this.commit({
      segments: segments.filter((s) => s.id !== id),
      active: id === active ? null : active,
      search: search && found !== undefined
        ? { ...search, dropped: [...search.dropped, found] }
        : search,
    });
  }

  clear(): void {
    if (this.current.segments.length) this.commit(EMPTY);
  }

  /** Add finished masks as objects, in one step. */
  addMasks(masks: readonly { readonly name: string; readonly label: string; readonly mask: Candidate }[]): void {
    const { segments } = this.current;
    const added: Segment[] = [];
    for (const { name, label, mask } of masks) {
      const segment = this.newSegment({
        label,
        // So that a click refines it.
        prompt: { ...EMPTY_PROMPT, mask },
        candidates: [mask],
        color: this.pickColor(mask, [...segments, ...added]),
      });
      added.push(name ? { ...segment, name } : segment);
    }
    this.commit({ ...this.current, segments: [...segments, ...added], active: null });
  }

  /** Show what an automatic search found, in place of what one before it did. */
  startSearch(found: readonly Found[], thresholds: Thresholds): void {
    const segments = this.current.segments
      .filter((s) => s.found === undefined || s.kept)
      .map(({ found: _, ...segment }) => segment);
    const search: Search = { ...thresholds, found, dropped: [] };
    this.commit(this.filtered({ segments, active: null, search }));
  }

  /** Filter what was found anew; `step` says whether undo should come back here. */
  filter(thresholds: Thresholds, step: boolean): void {
    const { search } = this.current;
    if (!search) return;
    const doc = this.filtered({ ...this.current, search: { ...search, ...thresholds } });
    if (step) this.commit(doc);
    else this.replace(doc);
  }

  private filtered(doc: Doc): Doc {
    const search = doc.search!;
    const there = new Map(doc.segments.filter((s) => s.found !== undefined).map((s) => [s.found, s]));
    const segments = doc.segments.filter((s) => s.found === undefined || s.kept);
    const taken = new Set(segments.map((s) => s.found));
    for (const index of passing(search.found, search)) {
      if (search.dropped.includes(index) || taken.has(index)) continue;
      segments.push(there.get(index) ?? this.fromSearch(search.found[index]!, index, segments));
    }
    const active = segments.some((s) => s.id === doc.active) ? doc.active : null;
    return { segments, active, search };
  }

  private fromSearch(mask: Found, found: number, others: readonly Segment[]): Segment {
    const prompt = { ...EMPTY_PROMPT, points: [{ ...mask.point, label: 1 as const }] };
    return this.newSegment({ prompt, candidates: [mask], found, color: this.pickColor(mask, others) });
  }

  private begin(change: Partial<Segment>): void {
    const segment = this.newSegment(change);
    const first = maskOf(segment);
    const { segments } = this.current;
    const color = first ? this.pickColor(first, segments) : segment.color;
    this.commit({
      ...this.current,
      segments: [...segments, { ...segment, color }],
      active: segment.id,
    });
  }

  private newSegment(change: Partial<Segment>): Segment {
    const id = this.nextId++;
    return {
      id,
      name: `Object ${id}`,
      label: "",
      color: id - 1,
      prompt: EMPTY_PROMPT,
      candidates: [],
      chosen: 0,
      hidden: false,
      stale: false,
      ...change,
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
