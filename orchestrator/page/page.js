"use strict";
// What a model says is put into the page as text alone (textContent): none of it is ever markup.

const SVG = "http://www.w3.org/2000/svg";
const STATUS_MS = 2000;
const STEP_PIXELS = 7;
const MOST_PIXELS = 16000;
const TOKENS_HIGH = 60;
const BAR_BOTTOM = 100;
const BARS = { draft: 22, wait: 9, prefill: 32, verify: 32, decode: 32 }; // heights: colour is not all

const $ = (id) => document.getElementById(id);
let running = null;

function element(name, text, attributes = {}, parent = null) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function svgElement(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

const show = (node, shown) => { node.hidden = !shown; };
const percent = (share) => `${Math.round(100 * share)} %`;
const milliseconds = (seconds) => `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
const duration = (seconds) => (seconds < 1 ? milliseconds(seconds) : `${seconds.toFixed(2)} s`);

// What the time of a step went to, in order, and when it began.
function partsOf(step, number) {
  const first = number === 1;
  const begin = first ? 0 : step.began - step.draft_wait;
  const kind = first ? "prefill" : step.verified ? "verify" : "decode";
  const forward = Math.min(step.forward, step.arrived - step.began);
  const wait = Math.max(0, step.arrived - begin - forward - step.draft_wait);
  return { begin, parts: [["draft", step.draft_wait], ["wait", wait], [kind, forward]] };
}

// A stream and the column that shows it.
class Side {
  constructor(name) {
    this.name = name;
    this.pane = $(`pane-${name}`);
    this.lane = $(`lane-${name}`);
    this.clear();
  }

  clear() {
    this.deltas = [];
    this.finished = null;
    this.lane.querySelector("svg")?.remove();
    this.svg = svgElement("svg", { preserveAspectRatio: "none" }, this.lane);
    this.bars = svgElement("g", {}, this.svg);
    this.tallest = this.name === "off" ? 3 : 5;
    this.rewind();
    this.measure();
  }

  rewind() {
    this.shown = 0;
    this.counts = { accepted: 0, ngram: 0, recovered: 0, bonus: 0, "target-only": 0 };
    this.pane.querySelector(".text").textContent = "";
  }

  get end() { return this.deltas.length ? this.deltas.at(-1).step.arrived : 0; }
  get ids() { return this.deltas.flatMap((delta) => delta.tokens.map((token) => token.id)); }
  get text() { return this.deltas.flatMap((delta) => delta.tokens.map((token) => token.text)).join(""); }

  take(delta) {
    this.deltas.push(delta);
    this.draw(delta.step, delta.tokens, this.deltas.length);
    this.write();
  }

  // The text of the next delta.
  write() {
    const delta = this.deltas[this.shown++];
    const box = this.pane.querySelector(".text");
    const follows = box.scrollTop + box.clientHeight > box.scrollHeight - 40;
    for (const token of delta.tokens) {
      const title = `${token.origin}, step ${this.shown}, token ${token.id}`;
      element("span", token.text, { "data-origin": token.origin, title }, box);
      this.counts[token.origin] += 1;
    }
    if (follows) box.scrollTop = box.scrollHeight;
    this.measure();
  }

  measure() {
    const seen = this.deltas.slice(0, this.shown);
    const tokens = Object.values(this.counts).reduce((sum, count) => sum + count, 0);
    const whole = this.finished && this.shown === this.deltas.length;
    const seconds = seen.length ? seen.at(-1).step.arrived - seen[0].step.arrived : 0;
    const speed = whole ? this.finished.tokens_per_second
      : seconds > 0 ? (tokens - seen[0].tokens.length) / seconds : 0;
    const verified = seen.reduce((sum, delta) => sum + delta.step.verified, 0);
    const accepted = seen.reduce((sum, delta) => sum + delta.step.accepted, 0);
    const figures = this.pane.querySelector(".figures");
    figures.textContent = "";
    const add = (name, value) => {
      const pair = element("div", null, {}, figures);
      element("dt", name, {}, pair);
      element("dd", value, {}, pair);
    };
    add("tokens per second", speed ? speed.toFixed(1) : "–");
    add("first token", seen.length ? duration(seen[0].step.arrived) : "–");
    add("time", seen.length ? duration(seen.at(-1).step.arrived) : "–");
    add("tokens", `${tokens}`);
    add("steps", `${seen.length}`);
    if (this.name === "on") {
      add("tokens per step", seen.length ? (tokens / seen.length).toFixed(2) : "–");
      add("accepted", verified ? percent(accepted / verified) : "–");
    }
  }

  // A step: its tokens as a stack, and below it where its time went.
  draw(step, tokens, number) {
    const { begin, parts } = partsOf(step, number);
    const group = svgElement("g", {}, this.svg);
    const verdict = step.verified ? `; ${step.accepted} of ${step.verified} draft tokens accepted` : "";
    const times = parts.filter(([, seconds]) => seconds > 0)
      .map(([name, seconds]) => `${name} ${milliseconds(seconds)}`).join(", ");
    svgElement("title", {}, group).textContent = `step ${number}: ${times}${verdict}`;
    let x = begin;
    for (const [name, seconds] of parts) {
      if (seconds > 0) {
        const height = BARS[name];
        svgElement("rect", { x, y: BAR_BOTTOM - height, width: seconds, height, "data-kind": name }, group);
      }
      x += seconds;
    }
    const gap = 0.12 * (step.arrived - begin);
    tokens.forEach((token, index) => svgElement("rect", {
      x: begin + gap / 2, y: index + 0.06, width: step.arrived - begin - gap, height: 0.88,
      "data-origin": token.origin,
    }, this.bars));
    this.tallest = Math.max(this.tallest, tokens.length);
    this.bars.setAttribute("transform", `translate(0 ${TOKENS_HIGH}) scale(1 ${-TOKENS_HIGH / this.tallest})`);
  }
}

const both = { off: new Side("off"), on: new Side("on") };

// ---- asking

function asked(speculation) {
  const number = (id) => {
    const value = $(id).value.trim();
    return value === "" ? null : Number.isFinite(Number(value)) ? Number(value) : value;
  };
  return {
    prompt: $("prompt").value,
    chat: $("chat").checked,
    system: $("system").value,
    model: $("model").value,
    speculation,
    max_tokens: number("max_tokens"),
    temperature: number("temperature"),
    top_p: number("top_p"),
    top_k: number("top_k"),
    min_p: number("min_p"),
    seed: $("seed").value.trim() || null,
    cache_salt: `page ${Math.random()}`, // so that no run finds the prompt of another one in KV
  };
}

const SILENT = "the orchestrator does not answer";
const BROKEN = "the connection broke before the output was whole";

// What browsers call a network error, each in its own words; being stopped is none.
function inWords(message) {
  return (error) => { throw error.name === "AbortError" ? error : new Error(message); };
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(inWords(BROKEN));
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}

async function stream(side, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("generate", { method: "POST", headers, body: JSON.stringify(body), signal })
    .catch(inWords(SILENT));
  const kind = response.headers.get("Content-Type") || "";
  if (!kind.includes("json")) throw new Error((await response.text()).trim());
  for await (const line of linesOf(response)) {
    if (line.error) throw new Error(line.error.message);
    if (line.started) begun(line.started);
    if (line.delta) side.take(line.delta);
    if (line.finished) side.finished = line.finished;
    later();
  }
  if (!side.finished) throw new Error(BROKEN);
}

// A seed that the server chose is that of the other run, too.
function begun(started) {
  if (!$("seed").value.trim()) $("seed").value = started.seed;
}

async function run() {
  const words = $("runs").value.split(" ");
  const wanted = words.map((word) => [word === "off" ? both.off : both.on, word]);
  for (const side of Object.values(both)) side.clear();
  for (const name of ["outcome", "error", "positions", "replay", "steps"]) show($(name), false);
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const side of Object.values(both)) {
    const used = wanted.some(([one]) => one === side);
    show(side.pane, used);
    show(side.lane, used);
  }
  show($("rounds"), true);
  running = new AbortController();
  working(true);
  try {
    for (const [side, word] of wanted) {
      await stream(side, asked(word), running.signal);
      side.measure();
    }
    if (wanted.length === 2) compare();
  } catch (error) {
    if (error.name === "AbortError") stopped();
    else fail(error.message);
  } finally {
    running = null;
    working(false);
    update();
    table();
    look();
  }
}

// Run and Stop take turns; so does what the keyboard points at.
function working(busy) {
  const pointed = [$("run"), $("stop")].includes(document.activeElement);
  show($("run"), !busy);
  show($("stop"), busy);
  if (pointed) $(busy ? "stop" : "run").focus();
  document.body.dataset.state = busy ? "running" : "idle";
}

function fail(message) {
  $("error").textContent = message;
  show($("error"), true);
  const field = $(/^(?:sampling\.)?(\w+) is /.exec(message)?.[1] ?? "");
  if (!field?.matches("#ask :is(input, textarea)")) return;
  field.closest("details")?.setAttribute("open", "");
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

function stopped() {
  const side = both.on.deltas.length ? both.on : both.off;
  $("outcome").classList.remove("bad");
  $("outcome").textContent = `Stopped after ${side.ids.length} tokens.`;
  show($("outcome"), true);
}

function compare() {
  const [off, on] = [both.off, both.on];
  const [left, right] = [off.ids, on.ids];
  const differs = left.findIndex((id, index) => id !== right[index]);
  const same = left.length === right.length && differs < 0 && off.text === on.text;
  const outcome = $("outcome");
  outcome.textContent = "";
  outcome.classList.toggle("bad", !same);
  if (!same) {
    outcome.textContent = `The outputs differ from token ${(differs < 0 ? Math.min(left.length, right.length) : differs) + 1} on: that must not be.`;
  } else {
    const [slow, fast] = [off.finished.tokens_per_second, on.finished.tokens_per_second];
    if (slow > 0) element("b", `${(fast / slow).toFixed(2)} × as fast`, {}, outcome);
    outcome.append(`${slow > 0 ? ", and " : ""}the same ${left.length} tokens: `);
    outcome.append(`${fast.toFixed(1)} instead of ${slow.toFixed(1)} tokens per second, `);
    outcome.append(`in ${on.deltas.length} steps of the target instead of ${off.deltas.length}.`);
  }
  show(outcome, true);
  show($("replay"), same);
}

// Both outputs once more, at the speed at which they came.
function replay() {
  const [off, on] = [both.off, both.on];
  off.rewind();
  on.rewind();
  $("run").disabled = $("replay").disabled = true;
  document.body.dataset.state = "replaying";
  const began = performance.now();
  const frame = (now) => {
    for (const side of [off, on]) {
      while (side.shown < side.deltas.length && side.deltas[side.shown].step.arrived <= (now - began) / 1000) side.write();
    }
    if ([off, on].some((side) => side.shown < side.deltas.length)) {
      requestAnimationFrame(frame);
    } else {
      $("run").disabled = $("replay").disabled = false;
      document.body.dataset.state = "idle";
    }
    update();
  };
  requestAnimationFrame(frame);
}

// ---- what is drawn of both

let due = false;
function later() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; update(); });
}

function update() {
  const end = Math.max(0.05, both.off.end, both.on.end) * 1.01;
  const most = Math.max(both.off.deltas.length, both.on.deltas.length);
  document.querySelector(".timeline").style.width = `${Math.min(MOST_PIXELS, most * STEP_PIXELS)}px`;
  for (const side of Object.values(both)) side.svg.setAttribute("viewBox", `0 0 ${end} 100`);
  axis(end);
  for (const item of document.querySelectorAll("#origins li")) {
    const side = both.on.pane.hidden ? both.off : both.on;
    item.querySelector("output").textContent = side.counts[item.dataset.origin] || "";
  }
  positions();
}

function axis(end) {
  const line = document.querySelector(".axis");
  const wanted = end / Math.max(4, Math.min(12, line.clientWidth / 90));
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= wanted);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  line.textContent = "";
  for (let at = 0; at < end * 0.97; at += step) {
    element("span", `${at.toFixed(digits)} s`, {}, line).style.left = `${100 * at / end}%`;
  }
}

function table() {
  const body = document.querySelector("#steps tbody");
  body.textContent = "";
  for (const side of Object.values(both)) {
    side.deltas.forEach(({ step, tokens }, index) => {
      const row = element("tr", null, {}, body);
      const [draft, wait, pass] = partsOf(step, index + 1).parts.map(([, seconds]) => milliseconds(seconds));
      const cells = [side.name, index + 1, tokens.length, step.accepted, step.verified, draft, pass, wait];
      for (const cell of cells) element("td", `${cell}`, {}, row);
    });
  }
  show($("steps"), body.childElementCount > 0);
}

function positions() {
  const steps = both.on.deltas.map((delta) => delta.step);
  const longest = Math.max(0, ...steps.map((step) => step.verified));
  const list = document.querySelector("#positions ol");
  list.textContent = "";
  for (let position = 0; position < longest; position += 1) {
    const verified = steps.filter((step) => step.verified > position).length;
    const accepted = steps.filter((step) => step.accepted > position).length;
    const item = element("li", null, {}, list);
    const bar = element("div", null, { class: "bar" }, item);
    element("i", null, {}, bar).style.height = `${100 * accepted / verified}%`;
    element("b", percent(accepted / verified), {}, item);
    element("small", `${position}: ${accepted} / ${verified}`, {}, item);
  }
  show($("positions"), longest > 0);
}

// ---- the strip

async function look() {
  if (document.hidden) return;
  try {
    const response = await fetch("status");
    if (!response.ok) throw new Error(await response.text());
    strip(await response.json());
  } catch {
    $("strip").textContent = SILENT;
  }
}

function strip(status) {
  const line = $("strip");
  line.textContent = "";
  const add = (bold, text) => {
    const part = element("span", null, {}, line);
    if (bold) element("b", bold, {}, part);
    part.append(text);
  };
  const names = status.models.map((model) => model.name);
  if (status.hindrance) add("", status.hindrance);
  else add(names.join(", "), "");
  add("", `${status.targets.reachable} of ${status.targets.all} targets`);
  add("", `${status.running} running${status.waiting ? `, ${status.waiting} waiting` : ""}`);
  for (const pool of status.pools) add(pool.name, ` ${poolSays(pool)}`);
  offer(names);
}

function poolSays(pool) {
  const said = [pool.state];
  if (pool.acceptance_rate !== null) said.push(`accepts ${percent(pool.acceptance_rate)}`);
  if (pool.speedup) {
    const { value, low, high } = pool.speedup;
    said.push(`speed-up ${value.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`);
  }
  return said.join(", ");
}

function offer(names) {
  const select = $("model");
  const known = [...select.options].map((option) => option.value);
  show($("model-field"), names.length > 1);
  if (names.join("\n") === known.join("\n")) return;
  const chosen = select.value;
  select.textContent = "";
  for (const name of names) element("option", name, { value: name }, select);
  if (names.includes(chosen)) select.value = chosen;
}

// ---- begin

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running && document.body.dataset.state !== "replaying") run();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("replay").addEventListener("click", replay);
window.addEventListener("resize", later);
document.body.dataset.state = "idle";
look();
setInterval(look, STATUS_MS);
