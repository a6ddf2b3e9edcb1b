// The page for the persons who answer what was handed over.

import { $, make, number, run, setWords, word } from "./elements.js";
import { call, useKey } from "./server.js";

const SECONDS = 15; // after which the queue is asked for again
let questions = [];

function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
}

async function load() {
  const path = $("answered").checked ? "/v1/support/queue?answered=true" : "/v1/support/queue";
  questions = (await call("GET", path)).queue;
  show();
}

// A question that is shown already stays as it is: somebody may be writing into it.
function show() {
  const shown = new Map([...$("queue").children].map((item) => [item.dataset.of, item]));
  const of = (question) => `${question.id} ${question.transcript.length} ${question.answer ?? ""}`;
  $("queue").replaceChildren(...questions.map((question) => {
    const item = shown.get(of(question)) ?? entry(question);
    item.dataset.of = of(question);
    return item;
  }));
  const open = questions.filter((question) => question.answer === null).length;
  $("status").textContent = open ? word("count", { count: number(open) }) : word("none");
}

function entry(question) {
  const item = document.createElement("li");
  const about = { number: number(question.id), customer: question.customer, time: moment(question.time) };
  const title = make("h3", word("from", about), { id: `question-${question.id}` });
  item.append(title, make("p", question.message, { className: "text" }));
  item.append(make("p", word("reason", { reason: question.reason }), { className: "faint" }));
  const turns = document.createElement("details");
  turns.append(make("summary", word("conversation")));
  for (const turn of question.transcript) {
    turns.append(make("p", turn.message, { className: "text" }), make("blockquote", turn.reply));
  }
  item.append(turns, question.answer === null ? form(question) : make("p", word("given", { answer: question.answer }), { className: "text" }));
  return item;
}

function field(tag, name, question, more) {
  const id = `${name}-${question.id}`;
  const label = make("label", word(name), { htmlFor: id });
  return [label, make(tag, "", { id, ...more })];
}

function form(question) {
  const element = document.createElement("form");
  element.setAttribute("aria-labelledby", `question-${question.id}`);
  const [textLabel, text] = field("textarea", "answerField", question, { rows: 3, required: true, maxLength: 20000 });
  const [intentLabel, intent] = field("input", "intentField", question, { maxLength: 256, autocomplete: "off", value: question.intent ?? "" });
  const button = make("button", word("send"));
  element.append(textLabel, text, intentLabel, intent, button);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    run(button, async () => {
      const body = { text: text.value, intent: intent.value.trim() || null };
      const kept = await call("POST", `/v1/support/queue/${question.id}/answer`, body);
      await load();
      $("status").textContent = word(kept.is_past_answer ? "kept" : "private", { customer: kept.customer });
      $("main").focus();
    });
  });
  return element;
}

function setLanguage(language) {
  setWords(language);
  if ([...$("queue").querySelectorAll("textarea")].every((text) => !text.value)) $("queue").replaceChildren();
  show();
}

$("language").addEventListener("change", (event) => setLanguage(event.target.value));
$("use-key").addEventListener("click", () => $("key-dialog").showModal());
$("key-form").addEventListener("submit", () => {
  useKey($("key-field").value.trim());
  $("key-field").value = "";
  run(null, load);
});
$("refresh").addEventListener("click", () => run($("refresh"), load));
$("answered").addEventListener("change", () => run(null, load));
setLanguage(navigator.language.slice(0, 2));
run(null, load);
setInterval(() => { if (!document.hidden && !$("key-dialog").open) run(null, load); }, SECONDS * 1000);
