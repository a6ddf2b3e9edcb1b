// The blind comparison: two answers whose systems are hidden, rated by people; win rates and agreement.

import { $, make, number, onSubmit, percent, row, run, word } from "./elements.js";
import { call, text } from "./server.js";

const MODEL = "model"; // the system that answers without a memory
const OF_MEMORY = "memory/"; // before the name of a memory
const shown = { pair: null, memories: [] };

const shownSystem = (system) => (system.startsWith(OF_MEMORY) ? word("withMemory", { name: system.slice(OF_MEMORY.length) }) : word("plain"));

function fillSystems() {
  const systems = [...shown.memories.map((name) => OF_MEMORY + name), MODEL];
  for (const [id, position] of [["first-system", 0], ["second-system", systems.length - 1]]) {
    const before = $(id).value;
    $(id).replaceChildren(...systems.map((system) => make("option", shownSystem(system), { value: system })));
    $(id).value = systems.includes(before) ? before : systems[position];
  }
}

export async function showResults(memories = shown.memories) {
  shown.memories = memories;
  fillSystems();
  const results = await call("GET", "/v1/ratings");
  const { ratings, raters, agreement, alpha } = results;
  const said = [word("ratings", { ratings: number(ratings), raters: number(raters) })];
  if (agreement !== null) {
    said.push(word("agreement", { share: percent(agreement), alpha: alpha === null ? "–" : alpha.toFixed(2) }));
  }
  $("agreement").textContent = said.join(" ");
  $("download").disabled = ratings === 0;
  $("rates").replaceChildren(...results.rates.map((rate) => {
    const [share, low, high] = [rate.rate, rate.low, rate.high].map(percent);
    const cells = [shownSystem(rate.first), shownSystem(rate.second), number(rate.wins), number(rate.losses), number(rate.ties)];
    return row([...cells, word("interval", { rate: share, low, high })]);
  }));
}

async function writeBoth() {
  const systems = [$("first-system").value, $("second-system").value];
  await call("POST", "/v1/ratings/pairs", { question: $("pair-question").value.trim(), systems });
  $("pair-question").value = "";
  $("no-pair").textContent = word("pairKept");
}

async function showPair() {
  const query = new URLSearchParams({ rater: $("rater").value.trim() });
  const next = (await call("GET", `/v1/ratings/pairs/next?${query}`)).pair;
  shown.pair = next?.id ?? null;
  $("pair").hidden = next === null;
  $("no-pair").textContent = next === null ? word("noPair") : "";
  if (next === null) return;
  $("shown-question").textContent = next.question;
  $("left-answer").textContent = next.left;
  $("right-answer").textContent = next.right;
  $("shown-question").focus();
}

async function rate(choice) {
  await call("POST", `/v1/ratings/pairs/${encodeURIComponent(shown.pair)}`, { rater: $("rater").value.trim(), choice });
  await Promise.all([showPair(), showResults()]);
}

async function download() {
  const lines = new Blob([await text("/v1/ratings/lines")], { type: "application/jsonl" });
  const link = make("a", "", { href: URL.createObjectURL(lines), download: "ratings.jsonl" });
  link.click();
  URL.revokeObjectURL(link.href);
}

export function setUpRatings() {
  onSubmit("new-pair", writeBoth);
  onSubmit("rater-form", showPair);
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.addEventListener("click", () => run(button, () => rate(button.dataset.choice)));
  }
  $("download").addEventListener("click", () => run($("download"), download));
}
