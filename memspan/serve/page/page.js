// The page of the server: memories, questions with citations, sources, reading, forgetting. Ratings are in ratings.js.

import { $, bytes, date, make, number, onSubmit, percent, row, run, setWords, word } from "./elements.js";
import { setUpRatings, showResults } from "./ratings.js";
import { Refused, call, events, upload, useKey } from "./server.js";

const AROUND = 1200; // characters before and after a passage
const state = { memories: [], bytes: null, name: null, answering: null };

const path = (rest) => `/v1/memories/${encodeURIComponent(state.name)}${rest}`;
const memoryNames = () => state.memories.filter((memory) => !memory.is_session).map((memory) => memory.name);

function setLanguage(language) {
  setWords(language);
  showMemories();
  if (state.name) run(null, showMemory);
}

// ---- memories

async function loadMemories() {
  const answer = await call("GET", "/v1/memories");
  state.memories = answer.data;
  state.bytes = answer.bytes;
  const names = state.memories.map((memory) => memory.name);
  if (!names.includes(state.name)) state.name = memoryNames()[0] ?? names[0] ?? null;
  showMemories();
  await showMemory();
}

function showMemories() {
  const [sessions, named] = [true, false].map((kind) => state.memories.filter((memory) => memory.is_session === kind));
  $("memories").replaceChildren(...named.map((memory) => entry(memory, memory.name)));
  $("conversations").replaceChildren(...sessions.map((memory) => entry(memory, shortened(memory.name))));
  $("of-conversations").hidden = sessions.length === 0;
  $("kept").textContent = state.bytes === null ? "" : word("kept", { bytes: bytes(state.bytes) });
  $("no-memory").hidden = state.bytes === null || state.memories.length > 0;
}

// A session is named by a hash of what the client called it: its first characters tell it from the others.
const shortened = (name) => name.replace(/^session-/, "").replace(/^([0-9a-f]{8})[0-9a-f]*/, "$1");

function entry(memory, shown) {
  const item = document.createElement("li");
  const button = make("button", shown, { type: "button" });
  button.setAttribute("aria-current", String(memory.name === state.name));
  button.addEventListener("click", () => choose(memory.name));
  const about = { sources: number(memory.sources), tokens: number(memory.tokens), bytes: bytes(memory.bytes) };
  item.append(button, make("span", word("about", about), { className: "faint" }));
  return item;
}

function choose(name) {
  state.answering?.abort();
  state.name = name;
  $("answers").replaceChildren();
  $("forget-preview").hidden = true;
  $("uploads").replaceChildren();
  showMemories();
  run(null, showMemory);
}

async function showMemory() {
  $("of-memory").hidden = state.name === null;
  if (state.name === null) return;
  $("memory-title").textContent = state.name;
  await Promise.all([showSources(), showResults(memoryNames())]);
}

// ---- questions

const conditions = () => {
  const source = $("filter-source").value.trim();
  const chosen = { since: $("filter-since").value, before: $("filter-until").value };
  return { ...(source && { sources: [source] }), ...Object.fromEntries(Object.entries(chosen).filter(([, value]) => value)) };
};

async function ask() {
  const question = $("question").value.trim();
  const item = document.createElement("li");
  const text = make("p", word("writing"), { className: "answer" });
  text.setAttribute("aria-live", "polite");
  text.setAttribute("aria-busy", "true");
  item.append(make("p", question, { className: "asked" }), text);
  $("answers").prepend(item);
  state.answering = new AbortController();
  $("stop").hidden = false;
  let written = "";
  try {
    for await (const event of events(path("/ask"), { question, ...conditions() }, state.answering.signal)) {
      if (event.error) throw new Refused(event.error.message, 500);
      if (event.text) text.textContent = written += event.text;
      if (event.answer) showAnswer(item, text, event.answer);
    }
  } catch (error) {
    text.textContent = written ? `${written} … ${word("stopped")}` : word("stopped");
    throw error;
  } finally {
    text.setAttribute("aria-busy", "false");
    $("stop").hidden = true;
  }
}

function showAnswer(item, text, answer) {
  text.classList.toggle("silent", !answer.is_answered);
  text.replaceChildren(...(answer.is_answered ? withCitations(answer) : [word("silent")]));
  if (answer.is_answered) {
    for (const quote of answer.quotes) item.append(quoted(quote));
    const { statements } = answer;
    if (statements.length > 1) {
      const older = statements.slice(0, -1).map((statement) => statement.text).join(" ");
      item.append(make("p", `${word("statement", { date: date(statements.at(-1).time) })} (${word("replaced")}${older})`, { className: "faint" }));
    }
    const confidence = word("confidence", { confidence: percent(answer.confidence) });
    item.append(make("p", answer.is_supported ? confidence : `${confidence}. ${word("unsupported")}`, { className: "faint" }));
  }
  if (!answer.passages.length) return;
  const list = document.createElement("ol");
  answer.passages.forEach((passage, index) => {
    const n = answer.numbers[index] ?? index + 1;
    const item = document.createElement("li");
    item.append(opener(passage, `[${n}] ${passage.source}`, n));
    list.append(item);
  });
  const details = document.createElement("details");
  details.append(make("summary", answer.is_answered ? word("passages") : word("nearest")), list);
  item.append(details);
}

// The text of an answer in which each mark [n] opens the passage that it stands for.
function withCitations(answer) {
  const parts = [];
  let end = 0;
  const characters = [...answer.answer]; // the server counts characters, not UTF-16 units
  for (const citation of answer.citations) {
    parts.push(characters.slice(end, citation.start).join(""));
    const mark = characters.slice(citation.start, citation.end).join("");
    const index = citation.passages[0];
    parts.push(opener(answer.passages[index], mark, answer.numbers[index] ?? index + 1));
    end = citation.end;
  }
  return [...parts, characters.slice(end).join("")];
}

function quoted(quote) {
  const block = make("blockquote", quote.text);
  const source = document.createElement("footer");
  const { chapter, page, line } = quote.location;
  const where = [chapter, page === null ? null : word("page", { n: page }), line === null ? null : word("line", { n: line })];
  source.append(opener(quote, [quote.source, ...where.filter((part) => part !== null)].join(", ")));
  block.append(source);
  return block;
}

function opener(passage, text, n = null) {
  const button = make("button", text, { type: "button", className: "link" });
  if (n !== null) button.title = word("open", { n });
  button.addEventListener("click", () => run(button, () => openPassage(passage)));
  return button;
}

async function openPassage(passage) {
  const query = new URLSearchParams({ source: passage.source, start: passage.start, end: passage.end, around: AROUND });
  const shown = await call("GET", path(`/text?${query}`));
  $("passage-title").textContent = passage.source;
  const at = word("at", { start: number(passage.start), end: number(passage.end) });
  $("passage-about").textContent = `${at} ${word("surroundings")}`;
  const mark = make("mark", shown.text);
  $("passage-text").replaceChildren(shown.before, mark, shown.after);
  $("passage").showModal();
  mark.scrollIntoView({ block: "center" });
}

// ---- sources

async function showSources() {
  const { data } = await call("GET", path("/sources"));
  $("sources").replaceChildren(...data.map((source) => (
    row([source.name, source.kind, number(source.characters), date(source.added)])
  )));
  $("no-sources").hidden = data.length > 0;
}

async function preview() {
  const pattern = $("forget-pattern").value;
  const { sources } = await call("POST", path("/forget"), { pattern, dry_run: true });
  $("forget-count").textContent = word("forgetCount", { count: number(sources.length) });
  $("forget-names").replaceChildren(...sources.map((name) => make("li", name)));
  $("forget-preview").dataset.pattern = pattern;
  $("forget-preview").hidden = false;
  $("forget-now").focus();
}

async function forget() {
  const { sources } = await call("POST", path("/forget"), { pattern: $("forget-preview").dataset.pattern, dry_run: false });
  $("forget-preview").hidden = true;
  $("answers").replaceChildren();
  await loadMemories();
  $("forget").reset();
  $("forgotten").textContent = word("forgotten", { count: number(sources.length) });
}

// ---- reading

function progressLine(name) {
  const line = document.createElement("li");
  const bar = Object.assign(document.createElement("progress"), { max: 1, value: 0 });
  const text = make("span");
  text.setAttribute("role", "status");
  bar.setAttribute("aria-label", name);
  line.append(text, bar);
  $("uploads").append(line);
  return {
    say: (key, values) => { text.textContent = word(key, { name, ...values }); },
    set: (share) => { bar.value = share; },
  };
}

async function read() {
  for (const file of $("files").files) {
    const line = progressLine(file.name);
    let tokens = 0;
    try {
      await upload(path("/files"), file, (share) => line.say("sending", { percent: percent(share) }), (event) => {
        if (event.error) throw new Refused(event.error.message, 400);
        tokens = event.tokens;
        line.set(event.share ?? 0);
        line.say("reading", { tokens: number(tokens) });
      });
      line.set(1);
      line.say("done", { tokens: number(tokens) });
    } catch (error) {
      line.say("failed", { message: error.message || word("unreachable") });
      if (error.status === 401) throw error;
    }
  }
  $("upload").reset();
  await loadMemories();
}

async function paste() {
  const name = $("paste-name").value.trim();
  const line = progressLine(name);
  const { tokens } = await call("POST", path("/texts"), { source: name, text: $("paste-text").value });
  line.set(1);
  line.say("done", { tokens: number(tokens) });
  $("paste").reset();
  await loadMemories();
}

// ---- tabs

function setUpTabs() {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const select = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      select(next);
      next.focus();
    });
  }
  select(tabs[0]);
}

$("language").addEventListener("change", (event) => setLanguage(event.target.value));
$("use-key").addEventListener("click", () => $("key-dialog").showModal());
$("key-form").addEventListener("submit", () => {
  useKey($("key-field").value.trim());
  $("key-field").value = "";
  run(null, loadMemories);
});
$("stop").addEventListener("click", () => state.answering?.abort());
$("forget-now").addEventListener("click", () => run($("forget-now"), forget));
$("forget-not").addEventListener("click", () => { $("forget-preview").hidden = true; });
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
onSubmit("new-memory", async () => {
  await call("POST", "/v1/memories", { name: $("new-name").value.trim() });
  state.name = $("new-name").value.trim();
  $("new-memory").reset();
  await loadMemories();
});
onSubmit("ask", ask);
onSubmit("forget", preview);
onSubmit("upload", read);
onSubmit("paste", paste);
setUpTabs();
setUpRatings();
setLanguage(navigator.language.slice(0, 2));
run(null, loadMemories);
